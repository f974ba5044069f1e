import type { Answer } from '@curfew/domain'
import type { GuardedClient } from './guarded-client.ts'
import type { TlsIdentity } from './tls-identity.ts'

/** A JSON document that somebody publishes; or why it could not be had, in words for whoever named it. */
export type FetchedJson =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly detail: string }

export interface FetchJsonOptions {
  /** CIDRs that it may live at, beside the deployment's. Default none. */
  readonly allowedNetworks?: readonly string[]
  /** From this call to the end of the answer, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number
  /** Default null: Node's own CAs, and no certificate. */
  readonly tls?: TlsIdentity | null
}

/** Larger than any discovery document or key set that is meant in earnest. */
const BYTES_MAX = 512 * 1024

/** Fetches a discovery document or a key set. Never rejects for what the network or the peer did. */
export async function fetchJson(
  client: Pick<GuardedClient, 'get'>,
  uri: string,
  { allowedNetworks = [], timeoutMs = 5_000, tls = null }: FetchJsonOptions = {},
): Promise<FetchedJson> {
  const answer = await client.get({
    uri,
    headers: { accept: 'application/json, application/jwk-set+json', 'user-agent': 'curfew' },
    timeoutMs,
    allowedNetworks,
    responseBytesMax: BYTES_MAX,
    tls,
  })
  return read(answer)
}

export interface PostJsonRequest {
  readonly uri: string
  /** Beside those that say what is sent. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** From this call to the end of the answer, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number
}

/** POSTs JSON to a service of this deployment's own choosing, and reads what it answers. Never rejects. */
export async function postJson(
  client: Pick<GuardedClient, 'post'>,
  { uri, headers, body, timeoutMs = 5_000 }: PostJsonRequest,
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
    allowedNetworks: [],
  })
  return read(answer)
}

function read(answer: Answer): FetchedJson {
  if (answer.kind !== 'response') return { ok: false, detail: answer.detail }
  if (answer.status !== 200) return { ok: false, detail: `answered ${answer.status}, not 200` }
  try {
    return { ok: true, value: JSON.parse(answer.body) }
  } catch {
    return { ok: false, detail: `is not JSON, or longer than ${BYTES_MAX} bytes` }
  }
}
