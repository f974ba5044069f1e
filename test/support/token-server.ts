import { createServer, type IncomingMessage } from 'node:http'
import { createLocalJWKSet, type JWK, jwtVerify } from 'jose'
import { listenOnLoopback } from './loopback.ts'

/** How the client of a token server authenticates, and the secret or public key for it. */
export type ClientCredential =
  | {
      readonly method: 'client_secret_basic' | 'client_secret_post' | 'client_secret_jwt'
      readonly secret: string
    }
  | { readonly method: 'private_key_jwt'; readonly publicJwk: JWK }
  | { readonly method: 'none' }

/** One request for a revocation. */
export interface RevocationRequest {
  readonly token: string
  readonly hint: string | null
  readonly status: number
}

/**
 * A strict authorization server with a revocation endpoint (RFC 7009) on a real port. It knows one client and takes its credential by
 * one method only, in one place only. It answers 200 to unknown tokens.
 */
export interface TokenServer extends AsyncDisposable {
  readonly uri: string
  readonly received: readonly RevocationRequest[]
  /** The tokens of successful requests, in order. */
  readonly revoked: readonly string[]
  /** Answers later requests so; null: properly. Requests wait for a promise. */
  behave(answer: { readonly status: number; readonly body?: string } | Promise<void> | null): void
}

export async function openTokenServer({
  clientId,
  credential,
  iss = 'https://idp.example',
}: {
  readonly clientId: string
  readonly credential: ClientCredential
  /** The `aud` of assertions. */
  readonly iss?: string
}): Promise<TokenServer> {
  const received: RevocationRequest[] = []
  const jtis = new Set<string>()
  let fixed: { readonly status: number; readonly body?: string } | Promise<void> | null = null

  async function isAuthentic(form: URLSearchParams, authorization: string | undefined): Promise<boolean> {
    const inForm = form.get('client_id') === clientId && authorization === undefined
    switch (credential.method) {
      case 'client_secret_basic': {
        const pair = [clientId, credential.secret].map(encodeURIComponent).join(':')
        const inHeader = authorization === `Basic ${Buffer.from(pair).toString('base64')}`
        return inHeader && !form.has('client_id') && !form.has('client_secret')
      }
      case 'client_secret_post':
        return inForm && form.get('client_secret') === credential.secret
      case 'none':
        return inForm && !form.has('client_secret') && !form.has('client_assertion')
      default:
        return inForm && isAsserted(form)
    }
  }

  async function isAsserted(form: URLSearchParams): Promise<boolean> {
    const type = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
    const assertion = form.get('client_assertion') ?? ''
    if (form.get('client_assertion_type') !== type || form.has('client_secret')) return false
    const claims = { issuer: clientId, subject: clientId, audience: iss, maxTokenAge: '2m' }
    try {
      const { payload } =
        credential.method === 'private_key_jwt'
          ? await jwtVerify(assertion, createLocalJWKSet({ keys: [credential.publicJwk] }), claims)
          : await jwtVerify(
              assertion,
              new TextEncoder().encode('secret' in credential ? credential.secret : ''),
              {
                ...claims,
                algorithms: ['HS256'],
              },
            )
      const isNew = typeof payload.jti === 'string' && !jtis.has(payload.jti)
      jtis.add(payload.jti ?? '')
      return isNew && (payload.exp ?? 0) - (payload.iat ?? 0) <= 300
    } catch {
      // The reason does not matter: the answer is 401.
      return false
    }
  }

  const server = createServer(async (request, response) => {
    const form = new URLSearchParams(await bodyOf(request))
    const answer = await fixed
    const isForm = request.headers['content-type'] === 'application/x-www-form-urlencoded'
    const [token = '', ...others] = form.getAll('token')
    const wellFormed = request.method === 'POST' && isForm && token !== '' && others.length === 0
    const status =
      answer?.status ??
      (wellFormed ? ((await isAuthentic(form, request.headers.authorization)) ? 200 : 401) : 400)
    received.push({ token, hint: form.get('token_type_hint'), status })
    const error = status === 401 ? 'invalid_client' : 'invalid_request'
    const body = answer?.body ?? (status === 200 ? '' : JSON.stringify({ error }))
    response.writeHead(status, { 'content-type': 'application/json' }).end(body)
  })
  const { url, close } = await listenOnLoopback(server)
  return {
    uri: `${url}/revoke`,
    received,
    get revoked() {
      return received.filter(({ status }) => status === 200).map(({ token }) => token)
    },
    behave(answer) {
      fixed = answer
    },
    [Symbol.asyncDispose]: close,
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = ''
  for await (const chunk of request.setEncoding('utf8')) body += chunk
  return body
}
