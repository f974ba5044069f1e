import type { Answer } from '@curfew/domain'
import type { GuardedClient } from './guarded-client.ts'

/** A JSON document that somebody publishes; or why it could not be had, in words for whoever named it. */
export type FetchedJson =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly detail: string }

export interface FetchJsonOptions {
  /** CIDRs that it may live at, beside the deployment's. Default none. */
  readonly allowedNetworks?: readonly string[]
  /** From this call to the end of the answer, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number
}

/** Larger than any discovery document or key set that is meant in earnest. */
const BYTES_MAX = 512 * 1024

/** Fetches a discovery document or a key set. Never rejects for what the network or the peer did. */
export async function fetchJson(
  client: Pick<GuardedClient, 'get'>,
  uri: string,
  { allowedNetworks = [], timeoutMs = 5_000 }: FetchJsonOptions = {},
): Promise<FetchedJson> {
  const answer = await client.get({
    uri,
    headers: { accept: 'application/json, application/jwk-set+json', 'user-agent': 'curfew' },
    timeoutMs,
    allowedNetworks,
    responseBytesMax: BYTES_MAX,
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
