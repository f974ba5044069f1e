import { generateKeyPairSync, randomUUID } from 'node:crypto'
import type { TestKeycloak } from '../../support/keycloak.ts'
import type { Browser, Page } from '../browser.ts'
import type { LoginIdp } from '../idp.ts'

/** A realm of a real Keycloak. */
export interface Realm extends LoginIdp {
  readonly name: string
  /** The URL of the key set. */
  readonly jwksUri: string
  /** Adds a user, whose password is the name. @returns the `sub`. */
  addUser(username: string): Promise<string>
  /** Sets the URL to which Keycloak posts the logout tokens of a client, as the recipe does. */
  setLogoutUrl(clientId: string, url: string): Promise<void>
  /** The clients of the realm, as Keycloak exports them. */
  exportClients(): Promise<readonly Readonly<Record<string, unknown>>[]>
  /** Ends the sessions of a user as an administrator does. */
  logOutUser(sub: string): Promise<void>
  /** Ends one session as an administrator does. */
  deleteSession(sid: string): Promise<void>
  /** Ends the browser's session, at the end_session_endpoint, without an ID token. */
  logOut(browser: Browser): Promise<Page>
  /** Adds a key that Keycloak publishes and does not sign with. @returns the private JWK, with the `kid` that Keycloak publishes. */
  addPassiveKey(): Promise<Readonly<Record<string, unknown>>>
  /** Lets users of another realm log in to this one. Both realms end their sessions together. */
  addIdentityProvider(
    alias: string,
    upstream: Realm,
    client: { readonly clientId: string; readonly clientSecret: string },
  ): Promise<void>
  /** Calls the admin API below this realm. @throws {Error} if the answer is an error. */
  admin(method: string, path: string, body?: unknown): Promise<Response>
}

/** A key set's entry, as far as the tests read it. */
interface PublishedKey {
  readonly kid: string
  readonly alg: string
  readonly n?: string
}

/** Creates a realm with its own name, and no clients or users besides Keycloak's. */
export async function openRealm(keycloak: TestKeycloak, settings: object = {}): Promise<Realm> {
  const name = `curfew-${randomUUID().slice(0, 8)}`
  const iss = `${keycloak.url}/realms/${name}`
  const jwksUri = `${iss}/protocol/openid-connect/certs`

  async function call(method: string, url: string, body?: unknown): Promise<Response> {
    const response = await fetch(url, {
      method,
      headers: {
        authorization: `Bearer ${await administratorToken(keycloak)}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      body: body === undefined ? null : JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`)
    return response
  }
  const admin = (method: string, path: string, body?: unknown) =>
    call(method, `${keycloak.url}/admin/realms/${name}${path}`, body)
  const clientOf = async (clientId: string) => {
    const found = await admin('GET', `/clients?clientId=${encodeURIComponent(clientId)}`)
    const [client] = (await found.json()) as { readonly id: string }[]
    if (client === undefined) throw new Error(`${name} has no client ${clientId}`)
    return client
  }

  await call('POST', `${keycloak.url}/admin/realms`, {
    realm: name,
    enabled: true,
    sslRequired: 'none',
    // The default hash is made to be slow.
    passwordPolicy: 'hashAlgorithm(pbkdf2-sha256) and hashIterations(1)',
    ...settings,
  })

  return {
    name,
    iss,
    jwksUri,
    admin,
    async register({ client_name, redirect_uris, post_logout_redirect_uris, ...metadata }) {
      const client = { client_id: `${client_name}`, client_secret: randomUUID() }
      await admin('POST', '/clients', {
        clientId: client.client_id,
        name: client_name,
        secret: client.client_secret,
        redirectUris: redirect_uris,
        attributes: {
          'backchannel.logout.url': metadata.backchannel_logout_uri,
          'backchannel.logout.session.required': 'true',
          'id.token.signed.response.alg': metadata.id_token_signed_response_alg,
          'post.logout.redirect.uris': (post_logout_redirect_uris as readonly string[] | undefined)?.join(
            '##',
          ),
        },
      })
      return client
    },
    async addUser(username) {
      const created = await admin('POST', '/users', {
        username,
        enabled: true,
        emailVerified: true,
        // Without them, Keycloak asks for a complete profile at the first login.
        email: `${username}@example.com`,
        firstName: username,
        lastName: 'Example',
        credentials: [{ type: 'password', value: username, temporary: false }],
      })
      return created.headers.get('location')?.split('/').at(-1) ?? ''
    },
    async logIn(browser, page, user) {
      // Keycloak answers a refused login with the same form.
      if (!page.body.includes('kc-form-login')) return page
      return browser.submit(page, { username: user, password: user })
    },
    async setLogoutUrl(clientId, url) {
      const client = await clientOf(clientId)
      await admin('PUT', `/clients/${client.id}`, {
        clientId,
        attributes: { 'backchannel.logout.url': url },
      })
    },
    async exportClients() {
      const exported = await admin('POST', '/partial-export?exportClients=true')
      return ((await exported.json()) as { readonly clients: Readonly<Record<string, unknown>>[] }).clients
    },
    async logOutUser(sub) {
      await admin('POST', `/users/${sub}/logout`)
    },
    async deleteSession(sid) {
      await admin('DELETE', `/sessions/${sid}`)
    },
    async logOut(browser) {
      return browser.submit(await browser.open(`${iss}/protocol/openid-connect/logout`), {})
    },
    async addIdentityProvider(alias, upstream, client) {
      const base = `${upstream.iss}/protocol/openid-connect`
      await admin('POST', '/identity-provider/instances', {
        alias,
        providerId: 'keycloak-oidc',
        enabled: true,
        trustEmail: true,
        config: {
          ...client,
          clientAuthMethod: 'client_secret_post',
          issuer: upstream.iss,
          authorizationUrl: `${base}/auth`,
          tokenUrl: `${base}/token`,
          logoutUrl: `${base}/logout`,
          jwksUrl: upstream.jwksUri,
          useJwksUrl: 'true',
          validateSignature: 'true',
          // Without it, a logout at an RP ends on an error page of Keycloak.
          backchannelSupported: 'true',
          defaultScope: 'openid profile email',
          syncMode: 'IMPORT',
        },
      })
    },
    async addPassiveKey() {
      const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
      const { id } = (await (await admin('GET', '')).json()) as { readonly id: string }
      await admin('POST', '/components', {
        name: 'curfew',
        providerId: 'rsa',
        providerType: 'org.keycloak.keys.KeyProvider',
        parentId: id,
        config: {
          enabled: ['true'],
          active: ['false'],
          priority: ['0'],
          algorithm: ['RS256'],
          privateKey: [privateKey.export({ type: 'pkcs8', format: 'pem' })],
        },
      })
      const jwk = privateKey.export({ format: 'jwk' })
      const { keys } = (await (await fetch(jwksUri)).json()) as { readonly keys: readonly PublishedKey[] }
      const published = keys.find(({ n }) => n === jwk.n)
      if (published === undefined) throw new Error(`${jwksUri} does not publish the key`)
      return { ...jwk, kid: published.kid, alg: published.alg, use: 'sig' }
    },
  }
}

/** An access token of the administrator. It is valid for a minute, so each call gets its own. */
async function administratorToken({ url, admin }: TestKeycloak): Promise<string> {
  const response = await fetch(`${url}/realms/master/protocol/openid-connect/token`, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: 'password', client_id: 'admin-cli', ...admin }),
  })
  const { access_token } = (await response.json()) as { readonly access_token?: string }
  if (access_token === undefined) throw new Error(`Keycloak refused its administrator: ${response.status}`)
  return access_token
}
