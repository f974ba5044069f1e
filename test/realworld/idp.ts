import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createOutbox, type OutboxOptions } from '@curfew/client/outbox'
import type { RelyingPartySettings } from '@curfew/contract'
import { Provider } from 'oidc-provider'
import { expect } from 'vitest'
import type { Curfew } from '../support/curfew.ts'
import type { Browser, Page } from './browser.ts'
import { listen } from './listener.ts'
import { runSnippet } from './snippet.ts'

/** The client metadata in the IdP's answer to a registration (RFC 7591). */
export interface RegisteredClient {
  readonly client_id: string
  readonly client_secret: string
}

/** The part of a real IdP that RPs and logins use. */
export interface LoginIdp {
  readonly iss: string
  /** Registers a client at the IdP. @param metadata as in RFC 7591. */
  register(
    metadata: Readonly<Record<string, unknown>>,
    settings?: RelyingPartySettings,
  ): Promise<RegisteredClient>
  /** Fills in the IdP's forms as this user, beginning at `page`. @returns the first page that is not the IdP's. */
  logIn(browser: Browser, page: Page, user: string): Promise<Page>
}

/** A real IdP: oidc-provider, which delegates its logouts to Curfew. It registers its clients at Curfew, too. */
export interface Idp extends LoginIdp {
  /** The name of the issuer at Curfew. */
  readonly name: string
  /** The ids of the posted events, in order. */
  readonly posted: readonly string[]
  /** Ends the browser's session at the IdP. */
  logOut(browser: Browser): Promise<Page>
  close(): Promise<void>
}

/** A real IdP as it comes. It knows nothing of Curfew. */
export interface PlainIdp extends LoginIdp {
  /** The private signing keys, as JWKs. */
  privateKeys(): Promise<readonly Readonly<Record<string, unknown>>[]>
  /** Clients whose logout the IdP failed to post and gave up, in order. */
  readonly lost: readonly string[]
  /** Sets the URI to which the IdP posts the logouts of this client. */
  repoint(clientId: string, backchannelLogoutUri: string): Promise<void>
  /** Ends the browser's session at the IdP. */
  logOut(browser: Browser): Promise<Page>
  /** Sends SIGKILL, and starts the IdP again with the same data. Missing if the IdP runs in the process of the test. */
  restart?(): Promise<void>
  close(): Promise<void>
}

export interface IdpOptions {
  readonly name: string
  /** Whether Curfew signs with the IdP's own keys. Default true. */
  readonly importKeys?: boolean
  /** Resource servers at Curfew that each logout names beside the client. Default none. */
  readonly resourceServers?: readonly string[]
}

/** The used part of a Curfew. */
export type IdpCurfew = Pick<Curfew, 'url' | 'client' | 'call' | 'keyFor'>

export async function openIdp(
  curfew: IdpCurfew,
  { name, importKeys = true, resourceServers = [] }: IdpOptions,
): Promise<Idp> {
  const directory = await mkdtemp(join(tmpdir(), 'curfew-outbox-'))
  const posted: string[] = []
  let shutDown: () => Promise<void> = async () => undefined
  const { privateKeys, ...plain } = await openProvider((provider) =>
    runSnippet('docs/idp/oidc-provider.md', {
      provider,
      Provider,
      async createOutbox(options: OutboxOptions) {
        const outbox = await createOutbox(options)
        const post: typeof outbox.post = async (event) => {
          const clients = [...(event.clients ?? []), ...resourceServers]
          const accepted = await outbox.post({ ...event, clients })
          posted.push(accepted.id)
          return accepted
        }
        return { ...outbox, post }
      },
      process: {
        env: { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.keyFor('events:write'), CURFEW_OUTBOX: directory },
        once: (_signal: 'SIGTERM', handler: typeof shutDown) => {
          shutDown = handler
        },
        exit: () => undefined,
      },
    }),
  )
  await curfew.client.putIssuer(name, { iss: plain.iss })
  if (importKeys) {
    for (const jwk of await privateKeys()) {
      const imported = await curfew.call('POST', `/v1/issuers/${name}/keys`, { jwk, sign_from: 'now' })
      expect(imported.status).toBe(201)
    }
  }
  return {
    ...plain,
    name,
    posted,
    async register(metadata, settings) {
      const client = await plain.register(metadata)
      await curfew.client.putRelyingParty(name, client.client_id, {
        ...client,
        backchannel_logout_uri: String(metadata.backchannel_logout_uri),
        // With true, Curfew would not send the logout of a subject, which has no sid.
        backchannel_logout_session_required: false,
        ...(settings !== undefined && { curfew: settings }),
      })
      return client
    },
    async close() {
      await plain.close()
      await shutDown()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** Opens oidc-provider. @param prepare changes it before it serves. Default: it posts its logouts by itself. */
export async function openProvider(prepare?: (provider: Provider) => Promise<void>): Promise<PlainIdp> {
  const listener = await listen()
  const iss = listener.url
  const keys = [
    privateJwk('RS256', generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey),
    privateJwk('ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey),
  ]
  const provider = new Provider(iss, configuration(keys))
  await prepare?.(provider)
  const lost: string[] = []
  provider.on('backchannel.error', (_ctx, error, { clientId }) => {
    lost.push(clientId)
    process.stderr.write(`the logout of ${clientId} was not posted: ${error.message}\n`)
  })
  listener.serve(provider.callback())
  const clients = createRegistrations(iss)
  return {
    iss,
    lost,
    privateKeys: async () => keys,
    ...clients,
    async logIn(browser, page, user) {
      let at = page
      while (at.url.startsWith(`${iss}/interaction/`)) at = await browser.submit(at, { login: user })
      return at
    },
    async logOut(browser) {
      return browser.submit(await browser.open(`${iss}/session/end`), { logout: 'yes' })
    },
    close: listener.close,
  }
}

/** The request of a token, as oidc-provider gives it. */
interface TokenContext {
  readonly oidc: {
    readonly entities: Readonly<
      Record<'AuthorizationCode' | 'RefreshToken', { readonly sid?: string } | undefined>
    >
  }
}

function configuration(keys: readonly unknown[]): Readonly<Record<string, unknown>> {
  return {
    jwks: { keys },
    cookies: { keys: ['a secret of the test'] },
    features: {
      backchannelLogout: { enabled: true },
      registration: { enabled: true },
      registrationManagement: { enabled: true, rotateRegistrationAccessToken: false },
      devInteractions: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true },
      // An access token for a resource (RFC 8707) is a JWT with the sid of the session.
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx: unknown, resource: string) => ({
          ...{ audience: resource, scope: 'read write', accessTokenFormat: 'jwt', accessTokenTTL: 600 },
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
      rpInitiatedLogout: {
        logoutSource: (ctx: { body: string }, form: string) => {
          ctx.body = form
        },
        postLogoutSuccessSource: (ctx: { body: string }) => {
          ctx.body = 'You are logged out.'
        },
      },
    },
    // By default oidc-provider posts to no address of this machine (the dispatcher), and waits 2.5 seconds (the signal).
    fetch: (url: string, { dispatcher: _guard, signal: _limit, ...options }: RequestInit) =>
      fetch(url, options),
    extraTokenClaims: ({ oidc: { entities } }: TokenContext) => ({
      sid: entities.AuthorizationCode?.sid ?? entities.RefreshToken?.sid,
    }),
    ttl: { AccessToken: 600, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256'] },
    findAccount: (_ctx: unknown, accountId: string) => ({ accountId, claims: () => ({ sub: accountId }) }),
  }
}

/** Registers clients (RFC 7591) and changes their registrations (RFC 7592). */
function createRegistrations(iss: string): Pick<PlainIdp, 'register' | 'repoint'> {
  const registered = new Map<string, { readonly token: string; readonly metadata: object }>()
  async function send(method: string, path: string, body: object, token?: string) {
    const response = await fetch(`${iss}${path}`, {
      method,
      headers: {
        'content-type': 'application/json',
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
      body: JSON.stringify(body),
    })
    const answer = (await response.json()) as RegisteredClient & Readonly<Record<string, unknown>>
    if (!response.ok) throw new Error(JSON.stringify(answer))
    return answer
  }
  return {
    async register(metadata) {
      const answer = await send('POST', '/reg', {
        // Without this setting, oidc-provider puts no sid into ID tokens.
        ...{ backchannel_logout_session_required: true, ...metadata },
      })
      const { registration_access_token: token, registration_client_uri: _uri, ...client } = answer
      const { client_id_issued_at: _at, client_secret_expires_at: _expiry, ...rest } = client
      registered.set(client.client_id, { token: String(token), metadata: rest })
      return client
    },
    async repoint(clientId, backchannelLogoutUri) {
      const { token, metadata } = registered.get(clientId) ?? { token: '', metadata: {} }
      const changed = { ...metadata, backchannel_logout_uri: backchannelLogoutUri }
      await send('PUT', `/reg/${clientId}`, changed, token)
    },
  }
}

function privateJwk(alg: string, key: KeyObject) {
  return { ...key.export({ format: 'jwk' }), alg, use: 'sig', kid: `idp-${alg}` }
}
