import type { GuardedClient } from './guarded-client.ts'

export interface GuardedFetchOptions {
  /** From a call to the end of its answer, in milliseconds. */
  readonly timeoutMs: number
  /** Most bytes that are read of an answer. */
  readonly responseBytesMax: number
}

/** Statuses whose `Response` must have no body. */
const WITHOUT_BODY = new Set([204, 205, 304])

/**
 * A `fetch` for a library that takes one, which makes its requests with the guarded client. It follows no redirect and sends text
 * bodies only. An answer beyond the limits has its beginning as the body.
 */
export function createGuardedFetch(
  client: Pick<GuardedClient, 'send'>,
  { timeoutMs, responseBytesMax }: GuardedFetchOptions,
): typeof fetch {
  return async (input, init = {}) => {
    const uri = input instanceof Request ? input.url : String(input)
    const { body = null, signal = null } = init
    if (body !== null && typeof body !== 'string' && !(body instanceof URLSearchParams))
      throw new TypeError('the guarded fetch sends text only')
    signal?.throwIfAborted()
    const sent = client.send({
      ...{ uri, timeoutMs, responseBytesMax, captureHeaders: true, allowedNetworks: null },
      method: (init.method ?? 'GET').toUpperCase(),
      headers: { 'user-agent': 'curfew', ...Object.fromEntries(new Headers(init.headers)) },
      body: body === null ? null : String(body),
    })
    const answer = await (signal === null ? sent : Promise.race([sent, rejectedBy(signal)]))
    // As `fetch` does when there is no answer.
    if (answer.kind !== 'response') throw new TypeError(answer.detail)
    return new Response(WITHOUT_BODY.has(answer.status) ? null : answer.body, {
      status: answer.status,
      headers: answer.headers ?? {},
    })
  }
}

/** Rejects with the reason of the signal when it aborts. The request goes on until its time is up; its answer is dropped. */
function rejectedBy(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}
