import type { Answer, NetworkAccess } from '@curfew/domain'
import type { GuardedClient } from './guarded-client.ts'
import type { TlsIdentity } from './tls-identity.ts'

/** A published JSON document, or why it could not be fetched. The reason is written for the person who gave the URI. */
export type FetchedJson =
  | {
      readonly ok: true
      readonly value: unknown
      /** Only an unbound admin may give such an address, so tenants see no part of the document. */
      readonly restricted?: boolean
    }
  | { readonly ok: false; readonly detail: string }

/** The networks that may be reached default to the deployment's. */
export interface FetchJsonOptions extends Partial<NetworkAccess> {
  /** From this call to the end of the answer, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number
  /** Default null: Node's own CAs, and no certificate. */
  readonly tls?: TlsIdentity | null
}

/** Larger than any real discovery document or key set. */
const BYTES_MAX = 512 * 1024

/** Fetches a discovery document or a key set. Never rejects because of the network or the peer. */
export async function fetchJson(
  client: Pick<GuardedClient, 'get'>,
  uri: string,
  { allowedNetworks = null, grantedNetworks, timeoutMs = 5_000, tls = null }: FetchJsonOptions = {},
): Promise<FetchedJson> {
  const answer = await client.get({
    uri,
    headers: { accept: 'application/json, application/jwk-set+json', 'user-agent': 'curfew' },
    timeoutMs,
    allowedNetworks,
    ...(grantedNetworks !== undefined && { grantedNetworks }),
    responseBytesMax: BYTES_MAX,
    tls,
  })
  return read(answer)
}

/** The networks that may be reached default to the deployment's. */
export interface PostJsonRequest extends Partial<NetworkAccess> {
  readonly uri: string
  /** Added to the headers that describe the body. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** From this call to the end of the answer, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number
}

/** POSTs JSON to a service and reads its answer. Never rejects. */
async function postJson(
  client: Pick<GuardedClient, 'post'>,
  { uri, headers, body, timeoutMs = 5_000, allowedNetworks = null, grantedNetworks }: PostJsonRequest,
): Promise<FetchedJson> {
  const answer = await client.post({
    uri,
    body,
    headers: {
      ...headers,
      'content-type': 'application/json',
      accept: 'application/json',
      'user-agent': 'curfew',
    },
    timeoutMs,
    allowedNetworks,
    ...(grantedNetworks !== undefined && { grantedNetworks }),
  })
  return read(answer)
}

/**
 * Creates a function that POSTs JSON to a service of an issuer, limited to the networks of that issuer.
 *
 * @param accessOf reads the networks of the issuer; rejects if they are unknown.
 */
export function createIssuerPost<Issuer>(
  client: Pick<GuardedClient, 'post'>,
  accessOf: (issuer: Issuer) => Promise<NetworkAccess>,
): (
  request: Omit<PostJsonRequest, keyof NetworkAccess> & { readonly issuer: Issuer },
) => Promise<FetchedJson> {
  return async ({ issuer, ...request }) => {
    let access: NetworkAccess
    try {
      access = await accessOf(issuer)
    } catch (error) {
      return { ok: false, detail: error instanceof Error ? error.message : String(error) }
    }
    return postJson(client, { ...request, ...access })
  }
}

function read(answer: Answer): FetchedJson {
  if (answer.kind !== 'response') return { ok: false, detail: answer.detail }
  if (answer.status !== 200) return { ok: false, detail: `answered ${answer.status}, not 200` }
  try {
    return {
      ok: true,
      value: JSON.parse(answer.body),
      ...(answer.restricted === true && { restricted: true }),
    }
  } catch {
    return { ok: false, detail: `is not JSON, or longer than ${BYTES_MAX} bytes` }
  }
}
