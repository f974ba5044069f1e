import type { ClientId } from '../ids.ts'
import type { ClientMetadata, KnownMember } from './client-metadata.ts'

/** The subject types of OpenID Connect Core section 8: one `sub` for all clients, or another one for each client. */
export const SUBJECT_TYPES = ['public', 'pairwise'] as const
export type SubjectType = (typeof SUBJECT_TYPES)[number]

/** The pairwise clients of an issuer. */
export interface PairwiseClients {
  /** Whether the clients that are not in `except` are pairwise. */
  readonly byDefault: boolean
  readonly except: ReadonlySet<ClientId>
}

/** Whether a client is pairwise. @param clients the pairwise clients of its issuer; null if it has none. */
export function isPairwise(clients: PairwiseClients | null, clientId: ClientId): boolean {
  return clients !== null && clients.byDefault !== clients.except.has(clientId)
}

/**
 * Finds the pairwise clients of an issuer; null if it has none.
 *
 * @param issuer the subject type of clients that state none.
 * @param stated the subject types that clients state.
 */
export function pairwiseClients(
  issuer: SubjectType,
  stated: Iterable<readonly [ClientId, SubjectType | null]>,
): PairwiseClients | null {
  const byDefault = issuer === 'pairwise'
  const except = new Set<ClientId>()
  for (const [clientId, type] of stated) if (type !== null && type !== issuer) except.add(clientId)
  return byDefault || except.size > 0 ? { byDefault, except } : null
}

/** Keycloak's mappers that replace the `sub` of a client's tokens. */
const KEYCLOAK_PAIRWISE = /^oidc-.*pairwise-sub-mapper$/

/**
 * The subject type that a client's metadata states; null if it states none. Keycloak has no member for it: there a client is
 * pairwise if it has a mapper of pairwise subjects.
 */
export function subjectTypeOf(client: ClientMetadata): KnownMember | null {
  const stated = client.member({ oidc: 'subject_type' })
  if (stated !== null || client.format !== 'keycloak') return stated
  const { protocolMappers } = client.document
  const index = Array.isArray(protocolMappers) ? protocolMappers.findIndex(isPairwiseMapper) : -1
  return index < 0 ? null : { value: 'pairwise', pointer: `/protocolMappers/${index}/protocolMapper` }
}

function isPairwiseMapper(mapper: unknown): boolean {
  const { protocolMapper } = (mapper ?? {}) as { readonly protocolMapper?: unknown }
  return typeof protocolMapper === 'string' && KEYCLOAK_PAIRWISE.test(protocolMapper)
}
