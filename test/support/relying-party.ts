import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { LogoutTokenClaims } from '@curfew/channels'
import type { Jwks, RelyingPartySettings } from '@curfew/contract'
import type { TokenAlgorithm } from '@curfew/domain'
import { createLogoutTokenVerifier, type Verification } from '@curfew/rp'
import { type Curfew, eventually, ISS, ISSUER } from './curfew.ts'

/** How a relying party answers. */
export type Manner =
  | { readonly status: number; readonly body?: string; readonly headers?: Readonly<Record<string, string>> }
  /** Resets the connection without an answer. */
  | 'reset'
  /** Sends bytes that are not HTTP. */
  | 'garbage'
  /** A 200 with a body that never ends. */
  | 'endless body'
  /** A good answer, one byte at a time. */
  | 'byte by byte'
  /** An unasked `100 Continue`, then a 200 with 48 KiB of headers. */
  | '100 and large headers'
  /** Never answers. */
  | 'hang'

/** One received request. */
export interface Received {
  /** By the clock of the process, in milliseconds. */
  readonly atMs: number
  readonly method: string
  /** Path and query, byte for byte. */
  readonly target: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
  /** The token's header and claims, read without verification. */
  readonly header: Readonly<Record<string, unknown>>
  readonly claims: LogoutTokenClaims & Readonly<Record<string, unknown>>
  readonly verification: Verification
}

export interface RelyingParty extends AsyncDisposable {
  readonly clientId: string
  readonly uri: string
  /** Every request, in order of arrival. */
  readonly received: readonly Received[]
  /** Most concurrent requests so far. */
  readonly mostAtOnce: number
  /** Sets the manner of later answers. Null is the proper one, which verifies. */
  behave(manner: Manner | null | ((number: number) => Manner | null)): void
  /** Refuses connections until `comeUp`. */
  goDown(): Promise<void>
  comeUp(): Promise<void>
  /** Waits for `count` requests in all. */
  told(count: number): Promise<readonly Received[]>
  close(): Promise<void>
}

export interface RelyingPartyOptions {
  readonly clientId: string
  readonly algorithm?: TokenAlgorithm
  /** Path and query of the endpoint. Default `/backchannel-logout`. */
  readonly target?: string
  /** More of its OIDC client metadata. */
  readonly metadata?: Readonly<Record<string, unknown>>
  readonly curfew?: RelyingPartySettings
  readonly issuer?: string
  readonly iss?: string
}

/**
 * A relying party on a real port, registered at Curfew. It verifies each token against the keys that Curfew publishes, as
 * Back-Channel Logout 2.6 requires, and answers 200 or 400 unless a test sets another manner. It caches the keys, and fetches
 * them again for an unknown key id.
 */
export async function openRelyingParty(
  curfew: Pick<Curfew, 'client'>,
  options: RelyingPartyOptions,
): Promise<RelyingParty> {
  const {
    clientId,
    algorithm = 'ES256',
    target = '/backchannel-logout',
    issuer = ISSUER,
    iss = ISS,
  } = options
  const received: Received[] = []
  let manner: (number: number) => Manner | null = () => null
  let jwks: Jwks = { keys: [] }
  const keysFor = async (kid: unknown) => {
    if (!jwks.keys.some((key) => key.kid === kid)) jwks = await curfew.client.getJwks(issuer)
    return jwks
  }

  let running = 0
  let mostAtOnce = 0
  const server = createServer(async (request, response) => {
    running += 1
    mostAtOnce = Math.max(mostAtOnce, running)
    response.once('close', () => {
      running -= 1
    })
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks).toString('utf8')
    const token = new URLSearchParams(body).get('logout_token') ?? ''
    const header = readPart(token, 0)
    const verification = await createLogoutTokenVerifier({
      issuer: iss,
      clientId,
      jwks: await keysFor(header.kid),
      algorithms: [algorithm],
    }).verify(token)
    const number = received.push({
      atMs: performance.now(),
      method: request.method ?? '',
      target: request.url ?? '',
      headers: request.headers,
      body,
      header,
      claims: readPart(token, 1) as Received['claims'],
      verification,
    })
    const refusal = verification.ok
      ? null
      : { error: verification.error, description: verification.description }
    answer(
      response,
      manner(number) ?? { status: refusal === null ? 200 : 400, body: JSON.stringify(refusal) },
    )
  })
  const listen = async (port: number) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
  const close = async () => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  const port = await listen(0)
  const uri = `http://127.0.0.1:${port}${target}`
  await curfew.client.putRelyingParty(issuer, clientId, {
    backchannel_logout_uri: uri,
    id_token_signed_response_alg: algorithm,
    ...options.metadata,
    ...(options.curfew !== undefined && { curfew: options.curfew }),
  })
  jwks = await curfew.client.getJwks(issuer)
  return {
    clientId,
    uri,
    received,
    get mostAtOnce() {
      return mostAtOnce
    },
    behave(next) {
      manner = typeof next === 'function' ? next : () => next
    },
    goDown: close,
    comeUp: async () => void (await listen(port)),
    told: (count) =>
      eventually(() => {
        if (received.length < count)
          throw new Error(`${clientId} received ${received.length} of ${count} requests`)
        return received
      }),
    close,
    [Symbol.asyncDispose]: close,
  }
}

function answer(response: ServerResponse, manner: Manner): void {
  const { socket } = response
  switch (manner) {
    case 'reset':
      socket?.resetAndDestroy()
      return
    case 'garbage':
      socket?.end(Buffer.from('\u0016\u0003\u0001 what is this? \r\n\r\n\u0000\u00ff', 'latin1'))
      return
    case 'endless body': {
      response.writeHead(200, { 'content-type': 'text/plain' })
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(4_096)));
      }
      response.on('drain', more)
      more()
      return
    }
    case '100 and large headers':
      response.writeContinue()
      for (let n = 0; n < 48; n++) response.setHeader(`x-${n}`, 'y'.repeat(1_000))
      response.end()
      return
    case 'byte by byte': {
      const bytes = [
        ...Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncache-control: no-store\r\n\r\nok'),
      ]
      const next = () => {
        const byte = bytes.shift()
        if (byte !== undefined) socket?.write(Uint8Array.of(byte), () => setImmediate(next))
      }
      socket?.setNoDelay(true)
      next()
      return
    }
    case 'hang':
      return
    default:
      response.writeHead(manner.status, { 'cache-control': 'no-store', ...manner.headers })
      response.end(manner.status === 204 ? undefined : manner.body)
  }
}

function readPart(token: string, part: number): Record<string, unknown> {
  const text = Buffer.from(token.split('.')[part] ?? '', 'base64url').toString('utf8')
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    // The body is not a token, so it has neither part.
    return {}
  }
}
