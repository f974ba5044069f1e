import type { ImportFault } from '@curfew/contract'
import { type ClientId, isDisabledAtIdp, isWithoutOAuth, nameOfApplication } from '@curfew/domain'
import type { BodyLine, Fault } from '@curfew/runtime'
import {
  bodyFaults,
  clientIdOf,
  type ReadRegistration,
  type Registration,
  type RegistrationDeps,
} from '../registry/registration.ts'
import { readImportedClient } from '../registry/relay.ts'
import { metadataNotices, type Notice } from './notices.ts'

/** A parsed line. */
export interface Body {
  readonly line: BodyLine
  readonly clientId: ClientId
  readonly body: Registration['body']
  /** The faults of members that were left out of `body`. They count only if the client has an endpoint. */
  readonly leftOut: readonly Fault[]
}

/** A client that was read, with its notices. */
export interface ReadLine {
  readonly read: ReadRegistration
  readonly faults: readonly Fault[]
  readonly notices: readonly Notice[]
  /** The kinds of the channels in which it has an endpoint. */
  readonly channels: readonly string[]
}

/** An application that the import leaves out, although it is no fault of the file. */
export interface LeftOut {
  readonly why: 'no_oauth_client' | 'disabled_without_endpoint' | 'disabled_with_faults'
  readonly name: string
  /** The faults of `disabled_with_faults`, in words. */
  readonly faults?: string
}

/** Parses one line. */
export function parseLine(line: BodyLine): Body | LeftOut | readonly Fault[] {
  const read = line.read()
  if ('fault' in read) return [read.fault]
  if (isWithoutOAuth(read.value)) return { why: 'no_oauth_client', name: nameOfApplication(read.value) }
  const faults = bodyFaults(read.value)
  const leftOut = faults.filter((fault) => isTolerable(fault, read.value))
  if (leftOut.length < faults.length) return disabledWith(faults, read.value) ?? faults
  const body = without(read.value as Registration['body'], leftOut)
  const clientId = clientIdOf(body)
  if (typeof clientId === 'string') return { line, clientId, body, leftOut }
  return disabledWith([clientId], body) ?? [clientId]
}

/**
 * Why the import leaves a client out that was read; null if it does not. A disabled client may still hold sessions, so it is registered
 * if it has an endpoint. Its faults do not stop the import: people rarely mend a client that is disabled.
 */
export function leftOutOf(body: Registration['body'], { faults, channels }: ReadLine): LeftOut | null {
  if (faults.length > 0) return disabledWith(faults, body)
  if (channels.length > 0 || !isSpared(body)) return null
  return { why: 'disabled_without_endpoint', name: nameOfApplication(body) }
}

/** A disabled client with faults; null if the faults count, because the client is not disabled. */
function disabledWith(faults: readonly Fault[], document: unknown): LeftOut | null {
  if (!isSpared(document)) return null
  const words = faults.map(({ pointer, detail }) => `${pointer} ${detail}`.trim())
  return { why: 'disabled_with_faults', name: nameOfApplication(document), faults: words.join('; ') }
}

/** Whether a client is disabled, and not from an export of Curfew, where it is registered: that has a `client_id` or settings. */
function isSpared(document: unknown): boolean {
  const isOurs = ['client_id', 'curfew'].some((member) => Object.hasOwn(Object(document), member))
  return !isOurs && isDisabledAtIdp(document)
}

/** Parses the lines. @param firsts the line of each client so far. The clients of these lines are added. */
export function parseLines(lines: readonly BodyLine[], firsts: Map<ClientId, number>) {
  const faults: ImportFault[] = []
  const bodies: Body[] = []
  const over: LeftOut[] = []
  for (const bodyLine of lines) {
    const { line } = bodyLine
    const parsed = parseLine(bodyLine)
    if ('why' in parsed) over.push(parsed)
    else if (!('clientId' in parsed))
      faults.push(...parsed.map((fault) => ({ line, client_id: null, ...fault })))
    else {
      const { clientId } = parsed
      const first = firsts.get(clientId)
      if (first === undefined) {
        firsts.set(clientId, line)
        bodies.push(parsed)
      } else {
        const detail = `is in line ${first} already`
        faults.push({ line, client_id: clientId, pointer: '/client_id', detail })
      }
    }
  }
  return { bodies, faults, over }
}

/**
 * Reads the registration of a line. Without an endpoint, invalid metadata does no harm: it is left out, with a notice. Exports of
 * identity providers have many such clients.
 */
export function readLine(
  registration: Registration,
  leftOut: readonly Fault[],
  deps: Pick<RegistrationDeps, 'targetFault' | 'ceiling' | 'relay'>,
): ReadLine {
  const given = readImportedClient(registration, deps)
  const channelsOf = ({ parts }: ReadRegistration) =>
    parts.flatMap(({ channel, registered }) => (registered.endpoints.length === 0 ? [] : [channel.kind]))
  const channels = channelsOf(given.read)
  if (channels.length > 0) {
    return {
      ...{ read: given.read, channels, faults: [...leftOut, ...given.read.faults] },
      notices: [...given.notices.map((code) => ({ code })), ...metadataNotices(given.read)],
    }
  }
  const name = given.read.faults.filter(({ pointer }) => pointer === given.read.client.clientName?.pointer)
  const all = [...leftOut, ...name]
  const read =
    name.length === 0
      ? given.read
      : readImportedClient({ ...registration, body: without(registration.body, name) }, deps).read
  return {
    ...{ read, channels, faults: read.faults },
    notices: [
      ...all.map(({ pointer }) => ({ code: 'member_left_out' as const, pointer })),
      ...metadataNotices(read),
    ],
  }
}

/** Whether a client without an endpoint could do without the member of a fault. An empty URI is no endpoint. */
function isTolerable({ pointer }: Fault, value: unknown): boolean {
  const member = memberOf(pointer)
  if (['', 'client_id', 'curfew'].includes(member)) return false
  return member !== 'backchannel_logout_uri' || Reflect.get(Object(value), member) === ''
}

function without(body: Registration['body'], faults: readonly Fault[]): Registration['body'] {
  const members = faults.map(({ pointer }) => memberOf(pointer))
  return Object.fromEntries(Object.entries(body).filter(([name]) => !members.includes(name)))
}

/** The name of the outermost member of a pointer. */
function memberOf(pointer: string): string {
  return (pointer.split('/')[1] ?? '').replaceAll('~1', '/').replaceAll('~0', '~')
}
