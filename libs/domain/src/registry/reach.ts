import type { ClientId, Issuer, IssuerName } from '../ids.ts'

/** What a credential may see and touch at all; its scopes say what it may do there. */
export type Reach =
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

export const EVERYTHING: Reach = { kind: 'everything' }

/** Whether an object lies within reach. @param clientId null where the object is the issuer's as a whole. */
export function reaches(
  reach: Reach,
  { issuer, clientId }: { issuer: string; clientId: string | null },
): boolean {
  switch (reach.kind) {
    case 'everything':
      return true
    case 'issuer':
      return issuer === reach.issuer
    case 'clients':
      return issuer === reach.issuer && clientId !== null && reach.clients.has(clientId as ClientId)
  }
}

/** What a list is confined to. Null: not at all. */
export interface Confines {
  readonly issuer: string | null
  readonly clientIds: readonly string[] | null
}

/** What is asked for, as far as it lies within reach, as conditions of a query. What does not has no clients at all. */
export function confinesOf(
  reach: Reach,
  { issuer, clientId }: { issuer: string | null; clientId: string | null } = { issuer: null, clientId: null },
): Confines {
  const asked = clientId === null ? null : [clientId]
  if (reach.kind === 'everything') return { issuer, clientIds: asked }
  if (issuer !== null && issuer !== reach.issuer) return { issuer, clientIds: [] }
  if (reach.kind === 'issuer') return { issuer: reach.issuer, clientIds: asked }
  const clientIds = [...reach.clients].filter((id) => clientId === null || id === clientId)
  return { issuer: reach.issuer, clientIds }
}

/** Whether what was confined so lies within reach as a whole. */
export function covers(reach: Reach, { issuer, clientIds }: Confines): boolean {
  if (reach.kind === 'everything') return true
  if (issuer !== reach.issuer) return false
  if (reach.kind === 'issuer') return true
  return clientIds?.every((id) => reach.clients.has(id as ClientId)) === true
}
