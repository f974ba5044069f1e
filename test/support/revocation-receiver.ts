import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createLocalJWKSet, jwtVerify } from 'jose'
import { type Curfew, ISS, ISSUER } from './curfew.ts'

/** A fault of a receiver. */
export type RevocationFault =
  | 'takes any request'
  | 'takes alg none'
  | 'ignores the signature'
  | 'ignores aud'
  | 'ignores iss'
  | 'ignores exp'
  | 'takes any body'
  | 'takes GET'

/** One received request. */
export interface RevocationRequest {
  readonly method: string
  readonly target: string
  readonly contentType: string | undefined
  readonly credential: string
  readonly body: string
  readonly status: number
}

/**
 * A strict endpoint for Global Token Revocation on a real port. The credential must come from the issuer, be signed by a
 * published key, be addressed to this endpoint, and live for 300 s at most. The body must have one member, which names a user in
 * a known format. The known users are `alice` and `alice@example.com`; others are answered with 404.
 */
export interface RevocationReceiver extends AsyncDisposable {
  readonly uri: string
  readonly received: readonly RevocationRequest[]
  /** Answers later requests with this status; null: with the proper one. */
  behave(status: number | null): void
}

export async function openRevocationReceiver(
  curfew: Curfew,
  {
    app,
    bearer = null,
    fault = null,
    member = 'sub_id',
    success = 204,
    echo = false,
  }: {
    /** The `sub` of the credential. */
    readonly app: string
    /** Accepts only this token, and no signed one. */
    readonly bearer?: string | null
    readonly fault?: RevocationFault | null
    readonly member?: string
    readonly success?: number
    /** Repeats the credential in the answer. */
    readonly echo?: boolean
  },
): Promise<RevocationReceiver> {
  const received: RevocationRequest[] = []
  let fixed: number | null = null

  async function isCredible(credential: string): Promise<boolean> {
    if (fault === 'takes any request') return true
    if (bearer !== null) return credential === bearer
    const [header = '', claims = ''] = credential.split('.')
    if (fault === 'takes alg none' && partOf(header).alg === 'none') return true
    if (fault === 'ignores the signature')
      return partOf(claims).aud === audience && partOf(header).alg !== 'none'
    try {
      const { payload } = await jwtVerify(
        credential,
        createLocalJWKSet((await curfew.client.getJwks(ISSUER)) as never),
        {
          ...{ typ: 'global-token-revocation+jwt', algorithms: ['ES256'], subject: app },
          ...(fault !== 'ignores aud' && { audience }),
          ...(fault !== 'ignores iss' && { issuer: ISS }),
          ...(fault === 'ignores exp' && { clockTolerance: 1e9 }),
        },
      )
      return typeof payload.jti === 'string' && (payload.exp ?? 0) - (payload.iat ?? 0) <= 300
    } catch {
      // The reason does not matter: the answer is 401.
      return false
    }
  }

  function statusFor(method: string, body: string): number {
    if (method !== 'POST' && fault !== 'takes GET') return 405
    if (fault === 'takes any body' || fault === 'takes GET') return success
    const named = userOf(body, member)
    if (named === null) return 400
    return named === 'alice' || named === 'alice@example.com' ? success : 404
  }

  const server = createServer(async (request, response) => {
    const body = await bodyOf(request)
    const credential = (request.headers.authorization ?? '').replace(/^Bearer /, '')
    const status = fixed ?? ((await isCredible(credential)) ? statusFor(request.method ?? '', body) : 401)
    received.push({
      ...{ method: request.method ?? '', target: request.url ?? '' },
      ...{ contentType: request.headers['content-type'], credential, body, status },
    })
    response.writeHead(status).end(echo ? `no: ${credential}` : undefined)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const audience = `${origin}/revoke`
  return {
    uri: `${audience}?tenant=1`,
    received,
    behave(status) {
      fixed = status
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** The user in the single member of a body; null if there is none. */
function userOf(body: string, member: string): string | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    // A body that is not JSON names no user.
    return null
  }
  const entries = Object.entries(Object(parsed))
  const [name, identifier] = entries[0] ?? []
  if (entries.length !== 1 || name !== member) return null
  const { format, iss, sub, email, id } = Object(identifier) as Record<string, unknown>
  const user = { iss_sub: iss === ISS ? sub : undefined, email, opaque: id }[String(format)]
  return typeof user === 'string' ? user : null
}

function partOf(part: string): Record<string, unknown> {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
  } catch {
    // An unreadable part has no members.
    return {}
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}
