import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** One request that the API or its token endpoint has received. */
export interface AdminRequest {
  /** Method and target, such as `DELETE /sessions/s1`. */
  readonly line: string
  readonly authorization: string | undefined
  readonly body: string
  readonly status: number
}

/** The answer to one request. */
export interface AdminAnswer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/**
 * An admin API on a real port, with a token endpoint at `/token` for a client and its secret. It answers 401 without a valid token,
 * 204 for the sessions and users that it knows, and 404 for others.
 */
export interface AdminApi extends AsyncDisposable {
  readonly url: string
  readonly received: readonly AdminRequest[]
  /** The requests that were not for a token. */
  calls(): readonly string[]
  /** Answers later requests to the API so; null: with the proper answer. */
  behave(answer: AdminAnswer | null): void
  /** Answers later requests for a token so; null: with a token. */
  behaveToken(answer: AdminAnswer | null): void
  /** Makes every token that was given so far invalid. */
  revokeTokens(): void
}

export async function openAdminApi({
  secret,
  known = ['alice', 's1'],
}: {
  readonly secret: string
  /** The users and sessions that it knows. */
  readonly known?: readonly string[]
}): Promise<AdminApi> {
  const received: AdminRequest[] = []
  const valid = new Set<string>()
  let issued = 0
  let answer: AdminAnswer | null = null
  let tokenAnswer: AdminAnswer | null = null

  function token(authorization: string | undefined): AdminAnswer {
    if (tokenAnswer !== null) return tokenAnswer
    if (authorization !== `Basic ${btoa(`curfew:${secret}`)}`)
      return { status: 401, body: JSON.stringify({ error: 'invalid_client' }) }
    const access_token = `token-${secret}-${++issued}`
    valid.add(`Bearer ${access_token}`)
    return { status: 200, body: JSON.stringify({ access_token, expires_in: 300, token_type: 'Bearer' }) }
  }
  function api(target: string, authorization: string | undefined): AdminAnswer {
    if (!valid.has(authorization ?? '') && authorization !== `Bearer ${secret}`) return { status: 401 }
    if (answer !== null) return answer
    const name = decodeURIComponent(target.split('/')[2] ?? '')
    return { status: known.includes(name) ? 204 : 404 }
  }

  const server = createServer(async (request, response) => {
    const { method = '', url = '' } = request
    const { authorization } = request.headers
    const body = Buffer.concat(await request.toArray()).toString('utf8')
    const reply = url === '/token' ? token(authorization) : api(url, authorization)
    received.push({ line: `${method} ${url}`, authorization, body, status: reply.status })
    response.writeHead(reply.status, { 'content-type': 'application/json', ...reply.headers }).end(reply.body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    calls: () => received.map(({ line }) => line).filter((line) => !line.endsWith(' /token')),
    behave(next) {
      answer = next
    },
    behaveToken(next) {
      tokenAnswer = next
    },
    revokeTokens: () => valid.clear(),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
