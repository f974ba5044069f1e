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

/** A real IdP: oidc-provider, which delegates its logouts to Curfew. */
export interface Idp {
  /** The name of the issuer at Curfew. */
  readonly name: string
  readonly iss: string
  /** The ids of the posted events, in order. */
  readonly posted: readonly string[]
  /** Registers a client at the IdP (RFC 7591), and registers the answered metadata at Curfew. */
  register(
    metadata: Readonly<Record<string, unknown>>,
    settings?: RelyingPartySettings,
  ): Promise<RegisteredClient>
  /** Fills in the IdP's forms as this user, beginning at `page`. @returns the first page that is not the IdP's. */
  logIn(browser: Browser, page: Page, user: string): Promise<Page>
  /** Ends the browser's session at the IdP. */
  logOut(browser: Browser): Promise<Page>
  close(): Promise<void>
}

export interface IdpOptions {
  readonly name: string
  /** Whether Curfew signs with the IdP's own keys. Default true. */
  readonly importKeys?: boolean
}

/** The used part of a Curfew. */
export type IdpCurfew = Pick<Curfew, 'url' | 'client' | 'call' | 'keyFor'>

export async function openIdp(curfew: IdpCurfew, { name, importKeys = true }: IdpOptions): Promise<Idp> {
  const listener = await listen()
  const iss = listener.url
  await curfew.client.putIssuer(name, { iss })
  const keys = [
    privateJwk('RS256', generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey),
    privateJwk('ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey),
  ]
  if (importKeys) {
    for (const jwk of keys) {
      const imported = await curfew.call('POST', `/v1/issuers/${name}/keys`, { jwk, sign_from: 'now' })
      expect(imported.status).toBe(201)
    }
  }

  const provider = new Provider(iss, {
    jwks: { keys },
    cookies: { keys: ['a secret of the test'] },
    features: {
      backchannelLogout: { enabled: true },
      registration: { enabled: true },
      devInteractions: { enabled: true },
      rpInitiatedLogout: {
        logoutSource: (ctx: { body: string }, form: string) => {
          ctx.body = form
        },
        postLogoutSuccessSource: (ctx: { body: string }) => {
          ctx.body = 'You are logged out.'
        },
      },
    },
    ttl: { AccessToken: 600, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256'] },
    findAccount: (_ctx: unknown, accountId: string) => ({ accountId, claims: () => ({ sub: accountId }) }),
  })
  const directory = await mkdtemp(join(tmpdir(), 'curfew-outbox-'))
  const posted: string[] = []
  let shutDown: () => Promise<void> = async () => undefined
  await runSnippet('docs/idp/oidc-provider.md', {
    provider,
    Provider,
    async createOutbox(options: OutboxOptions) {
      const outbox = await createOutbox(options)
      const post: typeof outbox.post = async (event) => {
        const accepted = await outbox.post(event)
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
    },
  })
  provider.on('backchannel.error', (_ctx, error, { clientId }) => {
    process.stderr.write(`the logout of ${clientId} was not posted: ${error.message}\n`)
  })
  listener.serve(provider.callback())

  return {
    name,
    iss,
    posted,
    async register(metadata, settings) {
      const response = await fetch(`${iss}/reg`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        // Without this setting, oidc-provider puts no sid into ID tokens.
        body: JSON.stringify({ backchannel_logout_session_required: true, ...metadata }),
      })
      const client = (await response.json()) as RegisteredClient & Readonly<Record<string, unknown>>
      if (response.status !== 201) throw new Error(JSON.stringify(client))
      const { backchannel_logout_uri: uri } = client
      await curfew.client.putRelyingParty(name, client.client_id, {
        ...client,
        backchannel_logout_uri: String(uri),
        // With true, Curfew would not send the logout of a subject, which has no sid.
        backchannel_logout_session_required: false,
        ...(settings !== undefined && { curfew: settings }),
      })
      return client
    },
    async logIn(browser, page, user) {
      let at = page
      while (at.url.startsWith(`${iss}/interaction/`)) at = await browser.submit(at, { login: user })
      return at
    },
    async logOut(browser) {
      return browser.submit(await browser.open(`${iss}/session/end`), { logout: 'yes' })
    },
    async close() {
      await listener.close()
      await shutDown()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

function privateJwk(alg: string, key: KeyObject) {
  return { ...key.export({ format: 'jwk' }), alg, use: 'sig', kid: `idp-${alg}` }
}
