import { generateKeyPairSync, randomUUID } from 'node:crypto'
import type { TestKeycloak } from '../../support/keycloak.ts'
import type { RegisteredClient } from '../idp.ts'
import type { RelayedIdp } from '../relay/place.ts'
import { type Admin, createAdmin } from './admin.ts'

/** A realm of a real Keycloak. */
export interface Realm extends RelayedIdp {
  /** Calls the admin API below this realm. @throws {Error} if the answer is an error. */
  readonly admin: Admin
  /** Adds a user, whose password is the name. @returns the `sub`. */
  addUser(username: string): Promise<string>
  /** Lets users of another realm log in to this one. Both realms end their sessions together. */
  addIdentityProvider(alias: string, upstream: Realm, client: RegisteredClient): Promise<void>
  /**
   * Adds a key that Keycloak publishes and does not sign with, because Keycloak hands out none of its own.
   *
   * @returns the private JWK, with the `kid` that Keycloak publishes.
   */
  addPassiveKey(): Promise<PrivateJwk>
  /** The clients of the realm, as Keycloak exports them. */
  exportClients(): Promise<readonly Readonly<Record<string, unknown>>[]>
  /** Ends the sessions of a user as an administrator does. */
  logOutUser(sub: string): Promise<void>
  /** Ends one session as an administrator does. */
  deleteSession(sid: string): Promise<void>
}

type PrivateJwk = Readonly<Record<string, unknown>> & { readonly kid: string }

/** Creates a realm with a name of its own. Keycloak adds its own clients, and no user. */
export async function openRealm(keycloak: TestKeycloak): Promise<Realm> {
  const name = `curfew-${randomUUID().slice(0, 8)}`
  const iss = `${keycloak.url}/realms/${name}`
  const all = createAdmin(keycloak)
  const admin: Admin = (method, path, body) => all(method, `/${name}${path}`, body)
  await all('POST', '', {
    realm: name,
    enabled: true,
    sslRequired: 'none',
    // The default hash is slow on purpose.
    passwordPolicy: 'hashAlgorithm(pbkdf2-sha256) and hashIterations(1)',
  })
  const addKey = () => addPassiveKey(admin, iss)
  return {
    iss,
    admin,
    register: (metadata) => register(admin, metadata),
    repoint: (clientId, url) => repoint(admin, clientId, url),
    addUser: (username) => addUser(admin, username),
    addPassiveKey: addKey,
    privateKeys: async () => [await addKey()],
    addIdentityProvider: (alias, upstream, client) => addIdentityProvider(admin, alias, upstream.iss, client),
    async exportClients() {
      const exported = await admin('POST', '/partial-export?exportClients=true')
      return ((await exported.json()) as { readonly clients: Readonly<Record<string, unknown>>[] }).clients
    },
    async logIn(browser, page, user) {
      // Keycloak answers a refused login with the same form.
      if (!page.body.includes('kc-form-login')) return page
      return browser.submit(page, { username: user, password: user })
    },
    async logOut(browser) {
      return browser.submit(await browser.open(`${iss}/protocol/openid-connect/logout`))
    },
    logOutUser: async (sub) => void (await admin('POST', `/users/${sub}/logout`)),
    deleteSession: async (sid) => void (await admin('DELETE', `/sessions/${sid}`)),
    close: async () => void (await admin('DELETE', '')),
  }
}

async function register(
  admin: Admin,
  metadata: Readonly<Record<string, unknown>>,
): Promise<RegisteredClient> {
  const client = { client_id: `${metadata.client_name}`, client_secret: randomUUID() }
  await admin('POST', '/clients', {
    clientId: client.client_id,
    name: metadata.client_name,
    secret: client.client_secret,
    redirectUris: metadata.redirect_uris,
    attributes: {
      'backchannel.logout.url': metadata.backchannel_logout_uri,
      'backchannel.logout.session.required': 'true',
      'id.token.signed.response.alg': metadata.id_token_signed_response_alg,
      'post.logout.redirect.uris': [metadata.post_logout_redirect_uris ?? []].flat().join('##'),
    },
  })
  return client
}

async function repoint(admin: Admin, clientId: string, url: string): Promise<void> {
  const found = await admin('GET', `/clients?clientId=${encodeURIComponent(clientId)}`)
  const [client] = (await found.json()) as { readonly id: string }[]
  // Keycloak keeps the settings that are left out.
  await admin('PUT', `/clients/${client?.id}`, { clientId, attributes: { 'backchannel.logout.url': url } })
}

async function addUser(admin: Admin, username: string): Promise<string> {
  const created = await admin('POST', '/users', {
    username,
    enabled: true,
    emailVerified: true,
    // Without an email and names, Keycloak asks for them at the first login.
    email: `${username}@example.com`,
    firstName: username,
    lastName: 'Example',
    credentials: [{ type: 'password', value: username, temporary: false }],
  })
  return created.headers.get('location')?.split('/').at(-1) ?? ''
}

async function addPassiveKey(admin: Admin, iss: string): Promise<PrivateJwk> {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
  await admin('POST', '/components', {
    name: 'curfew',
    providerId: 'rsa',
    providerType: 'org.keycloak.keys.KeyProvider',
    config: {
      enabled: ['true'],
      active: ['false'],
      priority: ['0'],
      algorithm: ['RS256'],
      privateKey: [privateKey.export({ type: 'pkcs8', format: 'pem' })],
    },
  })
  const jwk = privateKey.export({ format: 'jwk' })
  const jwksUri = `${iss}/protocol/openid-connect/certs`
  const { keys } = (await (await fetch(jwksUri)).json()) as {
    readonly keys: readonly { readonly kid: string; readonly alg: string; readonly n?: string }[]
  }
  const published = keys.find(({ n }) => n === jwk.n)
  if (published === undefined) throw new Error(`${jwksUri} does not publish the key`)
  return { ...jwk, kid: published.kid, alg: published.alg, use: 'sig' }
}

async function addIdentityProvider(
  admin: Admin,
  alias: string,
  iss: string,
  client: RegisteredClient,
): Promise<void> {
  const base = `${iss}/protocol/openid-connect`
  await admin('POST', '/identity-provider/instances', {
    alias,
    providerId: 'keycloak-oidc',
    enabled: true,
    trustEmail: true,
    config: {
      clientId: client.client_id,
      clientSecret: client.client_secret,
      clientAuthMethod: 'client_secret_post',
      issuer: iss,
      authorizationUrl: `${base}/auth`,
      tokenUrl: `${base}/token`,
      logoutUrl: `${base}/logout`,
      jwksUrl: `${base}/certs`,
      useJwksUrl: 'true',
      validateSignature: 'true',
      // Without it, a logout at an RP ends on an error page of Keycloak.
      backchannelSupported: 'true',
      defaultScope: 'openid profile email',
      syncMode: 'IMPORT',
    },
  })
}
