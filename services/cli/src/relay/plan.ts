import { logoutUriOf, relayFault } from '@curfew/channels'
import type { Client } from '@curfew/client'
import { clientIdIn, type Issuer, type RelyingParty, relayAddress, relayTemplate } from '@curfew/contract'
import { type ClientMetadata, readClient } from '@curfew/domain'
import { answered, CallFailed } from '../calls/connect.ts'
import { UsageError } from '../terminal/arguments.ts'

/** `relay`: the IdP posts to the relay. `restore`: the IdP posts to the relying party itself again. */
export type Direction = 'relay' | 'restore'

/** One client, and the URI to set for it at the IdP. */
export interface PlannedClient {
  readonly client_id: string
  readonly format: ClientMetadata['format']
  /** The member of the client's metadata at the IdP that has the URI, as a JSON pointer. */
  readonly member: string
  readonly uri: string
  /** The client's metadata. */
  readonly document: Readonly<Record<string, unknown>>
}

export interface Plan {
  readonly direction: Direction
  readonly clients: readonly PlannedClient[]
  /** Clients that keep their URI at the IdP, with the reason. */
  readonly leftOut: readonly { readonly client_id: string; readonly why: string }[]
}

/** The issuer of the clients, and where its relay is. */
export interface RelayPlace {
  /** Null: this key is bound to clients, so it may not read the issuer. */
  readonly issuer: Issuer | null
  /** The relay addresses, with `{client_id}`; null if they are unknown. */
  readonly template: string | null
}

/** @param url the address by which the command reaches Curfew, for a Curfew that does not know its public URL. */
export async function findRelay(client: Client, name: string, url: string | undefined): Promise<RelayPlace> {
  const issuer = await answered(client.getIssuer(name)).catch((error) => {
    // The listing of the clients fails as well if the issuer does not exist.
    if (error instanceof CallFailed && !error.passing) return null
    throw error
  })
  const configured = issuer?.links.relay ?? null
  if (configured === null && url !== undefined) {
    process.stderr.write(
      `CURFEW_PUBLIC_URL is not set, so the relay addresses begin with ${url}. The IdP must reach Curfew there.\n`,
    )
  }
  return { issuer, template: configured ?? (url === undefined ? null : relayTemplate(url, name)) }
}

/** The template of a relay. @throws {UsageError} if it is unknown. */
export function templateOf({ template }: RelayPlace): string {
  if (template !== null) return template
  throw new UsageError(
    'The address of the relay is unknown. Set CURFEW_PUBLIC_URL for Curfew and restart it; or give --url with an address by which both the IdP and this command reach Curfew.',
  )
}

/** The plan for clients that need not be registered. @param documents their metadata. */
export function planOfDocuments(
  documents: readonly Readonly<Record<string, unknown>>[],
  place: RelayPlace,
): Plan {
  const template = templateOf(place)
  return planOf(
    'relay',
    documents.flatMap((document) => {
      const clientId = clientIdIn(document)
      return clientId === null ? [] : [{ clientId, document, relay: () => relayAddress(template, clientId) }]
    }),
  )
}

/** The plan for registered clients. */
export function planOfParties(
  parties: readonly RelyingParty[],
  direction: Direction,
  place: RelayPlace,
): Plan {
  return planOf(
    direction,
    parties.map((party) => ({
      clientId: party.client_id,
      document: party,
      relay: () => party.links.relay ?? relayAddress(templateOf(place), party.client_id),
    })),
  )
}

function planOf(
  direction: Direction,
  given: readonly {
    readonly clientId: string
    readonly document: Readonly<Record<string, unknown>>
    readonly relay: () => string
  }[],
): Plan {
  const clients: PlannedClient[] = []
  const leftOut: Plan['leftOut'][number][] = []
  for (const { clientId, document, relay } of given) {
    const read = readClient(document)
    const registered = logoutUriOf(read)
    if (registered === null) continue
    const fault = direction === 'relay' ? relayFault(read) : null
    const own = String(registered.value)
    if (fault !== null) leftOut.push({ client_id: clientId, why: fault.detail })
    else
      clients.push({
        client_id: clientId,
        format: read.format,
        member: registered.pointer,
        uri: direction === 'relay' ? relay() : own,
        document,
      })
  }
  return { direction, clients, leftOut }
}

/** The registered clients of an issuer. @param only these, in this order; null: all of them. */
export async function registeredParties(
  client: Client,
  issuer: string,
  only: ReadonlySet<string> | null,
): Promise<readonly RelyingParty[]> {
  const parties: RelyingParty[] = []
  for (let cursor: string | null = null; ; ) {
    const page: Awaited<ReturnType<Client['listRelyingParties']>> = await answered(
      client.listRelyingParties(issuer, { limit: 500, ...(cursor !== null && { cursor }) }),
    )
    parties.push(...page.items.filter(({ client_id }) => only === null || only.has(client_id)))
    cursor = page.next_cursor
    if (cursor !== null) continue
    if (only === null) return parties
    const byId = new Map(parties.map((party) => [party.client_id, party]))
    return [...only].flatMap((clientId) => byId.get(clientId) ?? [])
  }
}
