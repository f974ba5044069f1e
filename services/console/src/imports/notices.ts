import { type ClientRemark, remarksOn } from '@curfew/channels'
import type { Imported, RelyingParty } from '@curfew/contract'
import { type ClientId, isDisabledAtIdp } from '@curfew/domain'
import type { ReadRegistration } from '../registry/registration.ts'
import type { ImportedClient } from '../registry/relay.ts'
import type { LeftOut } from './lines.ts'

/** A fact about one client that does not prevent its registration. */
export interface Notice {
  readonly code:
    | ClientRemark['code']
    | ImportedClient['notices'][number]
    | 'client_disabled'
    | 'member_left_out'
    | 'no_endpoint'
    | 'no_signing_key'
    | 'session_required'
  /** The place in the client's metadata, as a JSON pointer. */
  readonly pointer?: string
  /** The consequence; the algorithm of `no_signing_key`; or the origin of `relative_to_idp`. */
  readonly why?: string
}

/** Greatest number of client ids in a notice. */
const IDS_MAX = 1_000
/** Greatest number of notices with different places. Further ones are collected without a place. */
const PLACES_MAX = 200

interface Words {
  readonly clients: string
  readonly issuer: string
  readonly pointer: string
  readonly why: string
}

const NOTICES: Readonly<Record<Notice['code'], (words: Words) => string>> = {
  relay_address_kept: ({ clients }) =>
    `Kept the registered endpoint of ${clients}: the file has the relay's address.`,
  relay_address_crossed: ({ clients }) =>
    `Kept the registered endpoint of ${clients}: the file has the relay's address of another client, which refuses the tokens. Set each client's own relay address at the IdP.`,
  relay_unreadable: ({ clients }) =>
    `The relay cannot take the logout tokens of ${clients}: they are encrypted, and only the client has the key. Leave the client's own URL at the IdP.`,
  endpoint_unread: ({ clients, pointer }) =>
    pointer === '/adminUrl'
      ? `The adminUrl of ${clients} takes messages of Keycloak's adapters, not logout tokens, so Curfew does not use it. Register a backchannel_logout_uri.`
      : `Curfew does not use the back-channel URL of ${clients}${at(pointer)}. Register it as backchannel_logout_uri.`,
  frontchannel_only: ({ clients, pointer }) =>
    `Curfew cannot notify ${clients} with only a front-channel logout${at(pointer)}. Register a backchannel_logout_uri.`,
  saml_client: ({ clients }) => `Curfew cannot notify ${clients} with the protocol SAML.`,
  relative_to_idp: ({ clients, pointer, why }) =>
    `The logout URL of ${clients}${at(pointer)} is relative, without a rootUrl. Curfew takes it to be at ${why}, the host of the issuer, as Keycloak does. Write the whole URL there if the relying party is elsewhere.`,
  member_unused: ({ clients, pointer, why }) => `Curfew does not use ${pointer} of ${clients}: ${why}.`,
  client_disabled: ({ clients }) =>
    `The IdP has disabled ${clients}. The relying party may still hold sessions, so Curfew notifies it. Set curfew.enabled to false to stop that.`,
  member_left_out: ({ clients, pointer }) =>
    `Left out ${pointer} of ${clients}: it is invalid. Without an endpoint it has no effect.`,
  no_endpoint: ({ clients }) => `Curfew does not notify ${clients} without an endpoint.`,
  no_signing_key: ({ clients, issuer, why }) =>
    `The logouts of ${clients} become dead letters (no_signing_key) until ${issuer}, which has keys of its own, has one for ${why}: curfew keys generate --issuer ${issuer} --alg ${why}. Then publish it at the IdP.`,
  session_required: ({ clients, issuer }) =>
    `The registration of ${clients} requires a session, and the logouts of ${issuer} so far name only subjects. Such deliveries become dead letters (sid_required). Post sessions, name the sid in logouts, or register backchannel_logout_session_required false.`,
}

function at(pointer: string): string {
  return pointer === '' ? '' : ` at ${pointer}`
}

/** The facts in a client's metadata that Curfew cannot use, that it has no endpoint, or that it is disabled and yet notified. */
export function metadataNotices({ client, parts, body }: ReadRegistration): readonly Notice[] {
  const uris = parts.flatMap(({ registered }) => registered.endpoints.map(({ uri }) => uri))
  const remarks = remarksOn(client, uris)
  if (uris.length === 0) return remarks.length === 0 ? [{ code: 'no_endpoint' }] : remarks
  const isNotified = body.curfew?.enabled ?? true
  return isNotified && isDisabledAtIdp(client.document)
    ? [...remarks, { code: 'client_disabled', pointer: '/enabled' }]
    : remarks
}

/** A notice for an answer. @param clients the client or the number of clients, as the text names them. */
export function noticeView(
  { code, pointer = '', why = '' }: Notice,
  { issuer, clients }: Pick<Words, 'issuer' | 'clients'>,
): NonNullable<RelyingParty['status']['notices']>[number] {
  return {
    ...{ code, pointer: pointer === '' ? null : pointer },
    detail: NOTICES[code]({ issuer, pointer, why, clients }),
  }
}

/** Collects the notices of an import. @param issuer its name. */
export function createNotices(issuer: string) {
  const found = new Map<string, { readonly notice: Notice; readonly clientIds: ClientId[] }>()
  return {
    add(clientId: ClientId, notices: readonly Notice[]): void {
      for (const notice of notices) {
        const { code, pointer = '', why = '' } = notice
        const own = `${code} ${pointer} ${why}`
        const key = found.has(own) || found.size < PLACES_MAX ? own : code
        const kept = found.get(key) ?? { notice: key === own ? notice : { code }, clientIds: [] }
        found.set(key, kept)
        kept.clientIds.push(clientId)
      }
    },
    list: (): Imported['notices'] =>
      [...found.values()].map(({ notice, clientIds }) => ({
        ...noticeView(notice, {
          issuer,
          clients: counted(clientIds.length, 'client'),
        }),
        total: clientIds.length,
        client_ids: clientIds.slice(0, IDS_MAX),
      })),
  }
}

/** Greatest length of the name of an application that an import leaves out. */
const NAME_MAX = 255

const LEFT_OUT: Readonly<Record<LeftOut['why'], (words: { total: number; faults: string }) => string>> = {
  no_oauth_client: ({ total }) => `Passed over ${counted(total, 'application')} without an OAuth client.`,
  disabled_without_endpoint: ({ total }) =>
    `Passed over ${counted(total, 'client')} that the IdP has disabled, without a logout URL.`,
  disabled_with_faults: ({ total, faults }) =>
    `Passed over ${counted(total, 'client')} that the IdP has disabled, with faults${faults}. Correct them if the relying party may still hold sessions.`,
}

/** Collects the applications that an import leaves out, by the reason. */
export function createPassedOver() {
  const found = new Map<string, { readonly first: LeftOut; total: number; readonly names: string[] }>()
  return {
    add(applications: readonly LeftOut[]): void {
      for (const application of applications) {
        const { why, name, faults = '' } = application
        const own = `${why} ${faults}`
        const key = found.has(own) || found.size < PLACES_MAX ? own : why
        const first = key === own ? application : { why, name }
        const kept = found.get(key) ?? { first, total: 0, names: [] }
        found.set(key, kept)
        kept.total += 1
        if (kept.names.length < IDS_MAX) kept.names.push(name.slice(0, NAME_MAX))
      }
    },
    list: (): Imported['passed_over'] =>
      [...found.values()].map(({ first: { why, faults }, total, names }) => {
        const words = faults === undefined ? '' : `: ${faults}`
        return { code: why, detail: LEFT_OUT[why]({ total, faults: words }), total, names }
      }),
  }
}

function counted(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? '' : 's'}`
}
