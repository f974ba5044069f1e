import type { RelyingPartySettings } from '@curfew/contract'
import express from 'express'
import { auth, requiresAuth } from 'express-openid-connect'
import type { Browser, Page } from './browser.ts'
import type { Idp } from './idp.ts'
import { listen } from './listener.ts'

/** A real RP: an Express application with express-openid-connect, and one page that requires a session. */
export interface ExpressRp {
  readonly clientId: string
  readonly url: string
  /** The answered requests at the back-channel endpoint, in order. */
  readonly logouts: readonly { readonly token: string; readonly status: number }[]
  /** Logs in at the IdP, or through the browser's session at the IdP. @returns the sid of the ID token. */
  logIn(browser: Browser, user: string): Promise<string>
  /** The user of the browser's session at this RP, or null. */
  userOf(browser: Browser): Promise<string | null>
  /** Logs out at this RP, which redirects to the logout of the IdP (RP-Initiated Logout). */
  logOut(browser: Browser): Promise<Page>
  /** Refuses connections until `comeUp`. */
  goDown(): Promise<void>
  comeUp(): Promise<void>
  close(): Promise<void>
}

export interface ExpressRpOptions {
  readonly name: string
  readonly algorithm?: 'RS256' | 'ES256'
  readonly settings?: RelyingPartySettings
}

export async function openExpressRp(
  idp: Pick<Idp, 'iss' | 'register' | 'logIn'>,
  { name, algorithm = 'RS256', settings }: ExpressRpOptions,
): Promise<ExpressRp> {
  const listener = await listen()
  const { url } = listener
  const { client_id: clientId, client_secret: clientSecret } = await idp.register(
    {
      client_name: name,
      redirect_uris: [`${url}/callback`],
      post_logout_redirect_uris: [url],
      backchannel_logout_uri: `${url}/backchannel-logout`,
      id_token_signed_response_alg: algorithm,
    },
    settings,
  )

  // The store of express-openid-connect: it keeps a logout until the ended sessions would have expired.
  const loggedOut = new Map<string, unknown>()
  const logouts: { token: string; status: number }[] = []
  const app = express()
  app.use('/backchannel-logout', (request, response, next) => {
    response.once('finish', () => {
      logouts.push({ token: request.body?.logout_token ?? '', status: response.statusCode })
    })
    next()
  })
  app.use(
    auth({
      issuerBaseURL: idp.iss,
      baseURL: url,
      clientID: clientId,
      clientSecret,
      secret: 'another secret of the test',
      authRequired: false,
      idTokenSigningAlg: algorithm,
      idpLogout: true,
      authorizationParams: { response_type: 'code', scope: 'openid' },
      // Ports do not separate cookies, so each RP needs its own names.
      session: { name: `session-${name}` },
      transactionCookie: { name: `login-${name}` },
      backchannelLogout: {
        store: {
          get: (id, done) => done(null, loggedOut.get(id) as never),
          set: (id, logout, done) => {
            loggedOut.set(id, logout)
            done?.()
          },
          destroy: (id, done) => {
            loggedOut.delete(id)
            done?.()
          },
        },
      },
    }),
  )
  app.get('/', (request, response) => {
    response.json({ sub: request.oidc.user?.sub ?? null })
  })
  app.get('/profile', requiresAuth(), (request, response) => {
    response.json(request.oidc.idTokenClaims)
  })
  listener.serve(app)

  return {
    clientId,
    url,
    logouts,
    async logIn(browser, user) {
      const page = await idp.logIn(browser, await browser.open(`${url}/profile`), user)
      if (page.url !== `${url}/profile` && page.url !== `${url}/`)
        throw new Error(`${user} could not log in: ${page.url} ${page.body}`)
      const { body } = await browser.open(`${url}/profile`)
      return (JSON.parse(body) as { readonly sid: string }).sid
    },
    async userOf(browser) {
      const { body } = await browser.open(`${url}/`)
      return (JSON.parse(body) as { readonly sub: string | null }).sub
    },
    logOut: (browser) => browser.open(`${url}/logout`),
    goDown: listener.goDown,
    comeUp: listener.comeUp,
    close: listener.close,
  }
}
