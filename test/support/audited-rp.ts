import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import type { AuditSetupInput } from '@curfew/contract'
import { type Curfew, ISSUER } from './curfew.ts'
import { listenOnLoopback } from './loopback.ts'

// A relying party with a session store, and the hook that makes sessions for logout audits.

/** How the relying party takes logouts and refreshes. */
export interface AuditedManner {
  /** Whether a logout ends the session. Default true. */
  readonly ends?: boolean
  /** The status of the answer to a logout. Default 200. */
  readonly logoutStatus?: number
  /** Whether a refresh writes the session that it read before, even if it has ended meanwhile. Default false. */
  readonly revives?: boolean
  /** Answers the hook in the place of the relying party. */
  readonly hook?: { readonly status: number; readonly body: string }
  /** Answers the check in the place of the relying party. */
  readonly check?: { readonly status: number; readonly location?: string }
}

export interface AuditedRp extends AsyncDisposable {
  readonly clientId: string
  readonly url: string
  /** Sessions that live. */
  readonly sessions: ReadonlySet<string>
  /** The headers and bodies that the hook received. */
  readonly hooked: readonly { readonly headers: IncomingMessage['headers']; readonly body: string }[]
  /** Number of logouts received. */
  readonly logouts: number
  /** Number of checks that were answered as logged out. */
  readonly refusals: number
  /** Number of requests of a path, held ones included. */
  received(path: string): number
  behave(manner: AuditedManner): void
  /** Ends every session. */
  forget(): void
  /** Holds requests of a path until the returned function is called. */
  hold(path: string): () => void
  /** A set-up with the hook. */
  setup(more?: Partial<AuditSetupInput>): AuditSetupInput
}

/** Opens a relying party and registers it. */
export async function openAuditedRp(
  curfew: Pick<Curfew, 'client'>,
  clientId: string,
  { issuer = ISSUER }: { issuer?: string } = {},
): Promise<AuditedRp> {
  const sessions = new Set<string>()
  const hooked: { headers: IncomingMessage['headers']; body: string }[] = []
  const holds = new Map<string, Promise<void>>()
  let manner: AuditedManner = {}
  let logouts = 0
  let refusals = 0
  const received = new Map<string, number>()
  const sessionOf = (request: IncomingMessage) =>
    /session=([^;]+)/.exec(request.headers.cookie ?? '')?.[1] ?? ''

  const routes: Readonly<
    Record<string, (request: IncomingMessage, response: ServerResponse, body: string) => Promise<void> | void>
  > = {
    '/hook'(request, response, body) {
      hooked.push({ headers: request.headers, body })
      if (manner.hook !== undefined) return void response.writeHead(manner.hook.status).end(manner.hook.body)
      const sid = randomUUID()
      sessions.add(sid)
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ sub: `audit-user-of-${clientId}`, sid, cookies: [`session=${sid}`] }))
    },
    '/me'(request, response) {
      const { check } = manner
      if (check !== undefined)
        return void response
          .writeHead(check.status, check.location === undefined ? {} : { location: check.location })
          .end()
      const lives = sessions.has(sessionOf(request))
      if (!lives) refusals += 1
      response.writeHead(lives ? 200 : 401, lives ? {} : { 'set-cookie': 'session=; Max-Age=0' }).end()
    },
    async '/refresh'(request, response) {
      const sid = sessionOf(request)
      const lived = sessions.has(sid)
      // The answer of the token endpoint takes its time.
      await holds.get('/token')
      if (lived && manner.revives === true) sessions.add(sid)
      response.writeHead(lived ? 200 : 401).end()
    },
    '/backchannel-logout'(_request, response, body) {
      logouts += 1
      const [, payload = ''] = (new URLSearchParams(body).get('logout_token') ?? '').split('.')
      const { sid } = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as { sid?: string }
      if (manner.ends !== false && sid !== undefined) sessions.delete(sid)
      response.writeHead(manner.logoutStatus ?? 200).end()
    },
  }
  const server = createServer(async (request, response) => {
    const path = request.url ?? ''
    const body = await text(request)
    received.set(path, (received.get(path) ?? 0) + 1)
    await holds.get(path)
    await (routes[path] ?? ((_request, answer) => void answer.writeHead(404).end()))(request, response, body)
  })
  const { url, close } = await listenOnLoopback(server)
  await curfew.client.putRelyingParty(issuer, clientId, {
    backchannel_logout_uri: `${url}/backchannel-logout`,
  })

  return {
    clientId,
    url,
    sessions,
    hooked,
    get logouts() {
      return logouts
    },
    get refusals() {
      return refusals
    },
    received: (path) => received.get(path) ?? 0,
    behave(next) {
      manner = next
    },
    forget: () => sessions.clear(),
    hold(path) {
      const { promise, resolve } = Promise.withResolvers<void>()
      holds.set(path, promise)
      return () => {
        holds.delete(path)
        resolve()
      }
    },
    setup: (more = {}) => ({
      login: { kind: 'http', url: `${url}/hook`, method: 'POST' },
      check: { url: `${url}/me`, logged_in: { status: [200] }, logged_out: { status: [401, 302] } },
      timeout_s: 5,
      ...more,
    }),
    [Symbol.asyncDispose]: close,
  }
}
