import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'

// An identity provider on a real port. It serves discovery and its key set, and signs logout tokens.

export const LOGOUT_EVENT = 'http://schemas.openid.net/event/backchannel-logout'

/** A key of the identity provider. */
export interface ProviderKey {
  readonly jwk: JWK
  /** Signs claims. A header member that is undefined is left out. */
  sign(claims: Readonly<Record<string, unknown>>, header?: Readonly<Record<string, unknown>>): Promise<string>
}

export async function createProviderKey(kid: string | undefined, alg = 'ES256'): Promise<ProviderKey> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  const named = kid === undefined ? {} : { kid }
  return {
    jwk: { ...(await exportJWK(publicKey)), ...named, alg, use: 'sig' },
    sign: (claims, header = {}) =>
      new SignJWT(withoutUndefined(claims))
        .setProtectedHeader(
          withoutUndefined({ alg, ...named, typ: 'logout+jwt', ...header }) as { alg: string },
        )
        .sign(privateKey),
  }
}

function withoutUndefined(members: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return JSON.parse(JSON.stringify(members)) as Record<string, unknown>
}

/** How the identity provider answers requests for its key set. */
export type JwksManner = 'proper' | 'hang' | 'fail' | 'garbage'

export interface IdentityProvider extends AsyncDisposable {
  /** The address of the server, without a slash at the end. */
  readonly url: string
  readonly jwksUri: string
  /** The issuer identifier. */
  readonly iss: string
  /** The paths of all requests, in order. */
  readonly requested: readonly string[]
  /** The keys that it publishes. The first one signs. */
  keys: readonly ProviderKey[]
  manner: JwksManner
  /** The claims of a good logout token for a client, with changes. A claim that is undefined is left out. */
  claims(clientId: string, changes?: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>
  /** A logout token for a client, with changes of the good claims. */
  token(clientId: string, changes?: Readonly<Record<string, unknown>>): Promise<string>
}

/** @param options.iss Default: the address of the server. */
export async function openIdentityProvider(
  options: { readonly iss?: string } = {},
): Promise<IdentityProvider> {
  const requested: string[] = []
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    requested.push(path)
    const { manner, keys } = provider
    if (manner === 'hang') return
    response.writeHead(manner === 'fail' ? 503 : 200, { 'content-type': 'application/json' })
    if (manner === 'garbage') response.end('<html>')
    else if (path === '/jwks') response.end(JSON.stringify({ keys: keys.map(({ jwk }) => jwk) }))
    else response.end(JSON.stringify({ issuer: provider.iss, jwks_uri: provider.jwksUri }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const iss = options.iss ?? url
  const claims: IdentityProvider['claims'] = (clientId, changes = {}) => {
    const iat = Math.floor(Date.now() / 1_000)
    const times = { iat, exp: iat + 120 }
    const events = { [LOGOUT_EVENT]: {} }
    return { iss, aud: clientId, sub: 'alice', sid: 's-1', jti: randomUUID(), ...times, events, ...changes }
  }
  const provider: IdentityProvider = {
    ...{ url, jwksUri: `${url}/jwks`, iss, requested, claims },
    keys: [await createProviderKey('k1')],
    manner: 'proper',
    async token(clientId, changes) {
      const [key] = provider.keys
      if (key === undefined) throw new Error('the identity provider has no key')
      return key.sign(claims(clientId, changes))
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
  return provider
}

/** Posts a logout token to the relay, as an identity provider does. */
export function postToRelay(
  curfewUrl: string,
  { issuer, clientId, token }: { readonly issuer: string; readonly clientId: string; readonly token: string },
  headers: Readonly<Record<string, string>> = {},
): Promise<Response> {
  return fetch(`${curfewUrl}/relay/${issuer}/${encodeURIComponent(clientId)}`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    body: new URLSearchParams({ logout_token: token }),
  })
}
