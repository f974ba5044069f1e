import { relayFault } from '@curfew/channels'
import { readRelayAddress, relayAddress, relayTemplate } from '@curfew/contract'
import {
  type ReadRegistration,
  type Registration,
  type RegistrationDeps,
  readRegistration,
} from './registration.ts'

/** The addresses of the relay, where an IdP posts the logout tokens of its clients. */
export interface RelayAddresses {
  /** The addresses of an issuer, with `{client_id}` for the client; null if the public URL is not configured. */
  template(issuer: string): string | null
  /** The address of a client; null if the public URL is not configured. */
  of(client: { readonly issuer: string; readonly clientId: string }): string | null
}

/** @param publicUrl the URL by which the outside reaches this deployment. */
export function createRelayAddresses(publicUrl: string | null): RelayAddresses {
  const template = (issuer: string) => (publicUrl === null ? null : relayTemplate(publicUrl, issuer))
  return {
    template,
    of({ issuer, clientId }) {
      const own = template(issuer)
      return own === null ? null : relayAddress(own, clientId)
    },
  }
}

/** A client of an import, with its notices about the relay. */
export interface ImportedClient {
  readonly read: ReadRegistration
  readonly notices: readonly ('relay_address_kept' | 'relay_address_crossed' | 'relay_unreadable')[]
}

/**
 * Reads a client of an import. An export that was made after its IdP was changed has the address of the relay as the endpoint: the
 * registered endpoint then stays. A client without a registered endpoint has a fault.
 */
export function readImportedClient(
  registration: Registration,
  deps: Pick<RegistrationDeps, 'targetFault' | 'ceiling' | 'relay'>,
): ImportedClient {
  const given = readRegistration(registration, deps)
  const relayed = relayedEndpoints(given, deps.relay)
  const missing = relayed.flatMap(({ pointer, registered }) => (registered === null ? [pointer] : []))
  const kept = relayed.flatMap(({ registered, ...endpoint }) =>
    registered === null ? [] : [{ ...endpoint, registered }],
  )
  const read =
    kept.length === 0 ? given : readRegistration({ ...registration, body: withUris(given, kept) }, deps)
  return {
    read: {
      ...read,
      faults: [
        ...read.faults.filter(({ pointer }) => !missing.includes(pointer)),
        ...missing.map((pointer) => ({ pointer, detail: NO_URI })),
      ],
    },
    notices: [
      ...(kept.some(({ crossed }) => !crossed) ? (['relay_address_kept'] as const) : []),
      ...(kept.some(({ crossed }) => crossed) ? (['relay_address_crossed'] as const) : []),
      ...(isUnreadable(read) ? (['relay_unreadable'] as const) : []),
    ],
  }
}

/** Whether the relay could not take the logout tokens of a client that has an endpoint. */
export function isUnreadable({ client, parts }: ReadRegistration): boolean {
  return relayFault(client) !== null && parts.some(({ registered }) => registered.endpoints.length > 0)
}

const NO_URI =
  "is the address of the relay, and no endpoint of the client is registered. Put the relying party's own URL here: it is in an export that was made before the IdP was changed, or its owner knows it"

/** The endpoints that are addresses of the relay, with the URI of the present registration. */
function relayedEndpoints({ parts, issuer, clientId, before }: ReadRegistration, relay: RelayAddresses) {
  return parts.flatMap(({ channel: { kind }, registered: { endpoints } }) =>
    endpoints.flatMap(({ name, uri, pointer }) => {
      const known = before?.endpoints.find((endpoint) => endpoint.kind === kind && endpoint.name === name)
      const named = readRelayAddress(uri)
      if (named === null || known?.uri === uri) return []
      // The public URL may not be configured, or may be another one than the IdP uses.
      const crossed = named.issuer !== issuer.name || named.clientId !== clientId
      if (crossed && !isSame(uri, relay.of({ issuer: named.issuer, clientId: named.clientId }))) return []
      return [{ pointer, crossed, registered: known?.uri ?? null }]
    }),
  )
}

function isSame(uri: string, address: string | null): boolean {
  return address !== null && URL.parse(uri)?.href === URL.parse(address)?.href
}

function withUris(
  { body }: ReadRegistration,
  kept: readonly { readonly pointer: string; readonly registered: string }[],
): Registration['body'] {
  const copy = structuredClone(body)
  for (const { pointer, registered } of kept) {
    const names = pointer
      .split('/')
      .slice(1)
      .map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'))
    const last = names.pop() ?? ''
    // The pointer is of a member that was read, so each step is an object or a list.
    const parent = names.reduce<unknown>((node, name) => Reflect.get(Object(node), name), copy)
    Reflect.set(Object(parent), last, registered)
  }
  return copy
}
