import type { ClientId, Issuer, IssuerName } from '../ids.ts'

/** What a credential may see and touch at all; its scopes say what it may do there. */
export type AccessFilter =
  | { readonly kind: 'everything' }
  /** An IdP, or its administrator. */
  | { readonly kind: 'issuer'; readonly issuer: IssuerName; readonly iss: Issuer }
  /** An owner of relying parties: these clients of one issuer. */
  | {
      readonly kind: 'clients'
      readonly issuer: IssuerName
      readonly iss: Issuer
      readonly clients: ReadonlySet<ClientId>
    }

export const EVERYTHING: AccessFilter = { kind: 'everything' }

/** Whether an object lies within reach. @param clientId null where the object is the issuer's as a whole. */
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

/** What a list is confined to. Null: not at all. */
export interface AccessConditions {
  readonly issuer: string | null
  readonly clientIds: readonly string[] | null
}

/** What is asked for, as far as it lies within reach, as conditions of a query. What does not has no clients at all. */
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

/** Whether what was confined so lies within reach as a whole. */
export function admitsAll(access: AccessFilter, { issuer, clientIds }: AccessConditions): boolean {
  if (access.kind === 'everything') return true
  if (issuer !== access.issuer) return false
  if (access.kind === 'issuer') return true
  return clientIds?.every((id) => access.clients.has(id as ClientId)) === true
}
