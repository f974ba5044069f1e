import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { keyOf } from './feed/table.ts'

// A feed for the tests: it signs its answers and serves them and its keys on a real port, with long polls. A test may answer instead.

export const ISS = 'https://idp.example'
export const KEY = 'cfw_test'

export interface Asked {
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
}
export interface Reply {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

export interface TestFeed extends AsyncDisposable {
  readonly url: string
  /** All requests for the feed, in order. */
  readonly asked: readonly Asked[]
  /** Answers a request instead of the feed; undefined: the feed answers. */
  intercept: ((asked: Asked) => Reply | undefined | Promise<Reply | undefined>) | null
  /** Answers requests for keys with this set. */
  keys: readonly JWK[]
  seq: number
  maxStalenessS: number
  maxTokenTtlS: number
  /** Seconds by which the feed is behind what Curfew accepted. */
  behindS: number
  logout(kind: 'sid' | 'sub', value: string, before?: number): void
  logoutEverybody(before?: number): void
  /** A signed answer with changes; undefined removes a claim. */
  answer(after: number | null, change?: Readonly<Record<string, unknown>>, by?: Signed): Promise<string>
}
interface Signed {
  readonly key?: CryptoKey | Uint8Array
  readonly header?: Readonly<Record<string, unknown>>
}

export async function openFeed(): Promise<TestFeed> {
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const entries: { seq: number; key: string; before: number }[] = []
  const waiting = new Set<() => void>()
  const asked: Asked[] = []
  let everybody: number | null = null

  const server = createServer(async (request, response) => {
    const { pathname: path, searchParams: query } = new URL(request.url ?? '', 'http://feed')
    if (path === '/issuers/main/jwks.json')
      return send(response, { body: JSON.stringify({ keys: feed.keys }) })
    const question = { path, query, headers: request.headers }
    asked.push(question)
    const own = await feed.intercept?.(question)
    if (own !== undefined) return send(response, own)
    if (request.headers.authorization !== `Bearer ${KEY}`) return send(response, { status: 401 })
    const after = query.has('after') ? Number(query.get('after')) : null
    if (after !== null && after > feed.seq) return send(response, { status: 410 })
    if (after === feed.seq) await news(Number(query.get('wait')) * 1_000)
    send(response, { headers: { etag: `"${feed.seq}"` }, body: await feed.answer(after) })
  })

  function send(response: ServerResponse, { status = 200, headers = {}, body = '' }: Reply): void {
    response.writeHead(status, headers)
    response.end(body)
  }
  function news(waitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer)
        waiting.delete(end)
        resolve()
      }
      const timer = setTimeout(end, waitMs)
      waiting.add(end)
    })
  }
  function wake(): void {
    for (const end of [...waiting]) end()
  }

  const nowS = () => Date.now() / 1_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const feed: TestFeed = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/issuers/main/revocations`,
    asked,
    intercept: null,
    keys: [{ ...(await exportJWK(publicKey)), kid: 'k', alg: 'ES256' }],
    ...{ seq: 1_000, maxStalenessS: 30, maxTokenTtlS: 3_600, behindS: 0 },
    logout(kind, value, before = Math.floor(nowS())) {
      const key = keyOf(ISS, kind, value).subarray(0, 16).toString('base64url')
      entries.push({ seq: ++feed.seq, key, before })
      wake()
    },
    logoutEverybody(before = Math.floor(nowS())) {
      everybody = before
      feed.seq++
      wake()
    },
    answer(after, change = {}, { key = privateKey, header = {} } = {}) {
      const claims = {
        ...{ iss: ISS, iat: nowS(), after, seq: feed.seq, as_of: nowS() - feed.behindS },
        ...{ max_staleness: feed.maxStalenessS, max_token_ttl: feed.maxTokenTtlS, issuer_before: everybody },
        entries: entries.filter(({ seq }) => seq > (after ?? 0)).map(({ key, before }) => [key, before]),
        ...change,
      }
      return new SignJWT(JSON.parse(JSON.stringify(claims)))
        .setProtectedHeader({ alg: 'ES256', kid: 'k', typ: 'revocations+jwt', ...header })
        .sign(key)
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      wake()
      server.closeAllConnections()
      await closed
    },
  }
  return feed
}
