import type { ClientId, Issuer, IssuerName } from '../ids.ts'

/** The objects that a credential may read and change. Its scopes limit the operations on them. */
export type AccessFilter =
  | { readonly kind: 'everything' }
  /** The credential of an IdP or of its administrator. */
  | { readonly kind: 'issuer'; readonly issuer: IssuerName; readonly iss: Issuer }
  /** The credential of an owner of relying parties: these clients of one issuer. */
  | {
      readonly kind: 'clients'
      readonly issuer: IssuerName
      readonly iss: Issuer
      readonly clients: ReadonlySet<ClientId>
    }

export const EVERYTHING: AccessFilter = { kind: 'everything' }

/** Whether the filter admits an object. @param clientId null if the object belongs to the issuer as a whole. */
export function admits(
  access: AccessFilter,
  { issuer, clientId }: { issuer: string; clientId: string | null },
): boolean {
  switch (access.kind) {
    case 'everything':
      return true
    case 'issuer':
      return issuer === access.issuer
    case 'clients':
      return issuer === access.issuer && clientId !== null && access.clients.has(clientId as ClientId)
  }
}

/** The conditions of a list query. Null means no condition. */
export interface AccessConditions {
  readonly issuer: string | null
  readonly clientIds: readonly string[] | null
}

/**
 * Combines a request with the filter into the conditions of a query. A request outside the filter gets an empty list of clients.
 */
export function conditionsOf(
  access: AccessFilter,
  { issuer, clientId }: { issuer: string | null; clientId: string | null } = { issuer: null, clientId: null },
): AccessConditions {
  const asked = clientId === null ? null : [clientId]
  if (access.kind === 'everything') return { issuer, clientIds: asked }
  if (issuer !== null && issuer !== access.issuer) return { issuer, clientIds: [] }
  if (access.kind === 'issuer') return { issuer: access.issuer, clientIds: asked }
  const clientIds = [...access.clients].filter((id) => clientId === null || id === clientId)
  return { issuer: access.issuer, clientIds }
}

/** Whether the filter admits every object that matches the conditions. */
export function admitsAll(access: AccessFilter, { issuer, clientIds }: AccessConditions): boolean {
  if (access.kind === 'everything') return true
  if (issuer !== access.issuer) return false
  if (access.kind === 'issuer') return true
  return clientIds?.every((id) => access.clients.has(id as ClientId)) === true
}
