import type { ClientId, Issuer, IssuerName } from './ids.ts'

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
  readonly issuer: IssuerName | null
  readonly clientIds: readonly ClientId[] | null
}

/** The same as conditions of a query. */
export function confinesOf(reach: Reach): Confines {
  switch (reach.kind) {
    case 'everything':
      return { issuer: null, clientIds: null }
    case 'issuer':
      return { issuer: reach.issuer, clientIds: null }
    case 'clients':
      return { issuer: reach.issuer, clientIds: [...reach.clients] }
  }
}
