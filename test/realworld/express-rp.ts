import { text } from 'node:stream/consumers'
import type { RelyingPartySettings } from '@curfew/contract'
import { createLogoutReceiver } from '@curfew/rp'
import { expressLogoutHandler } from '@curfew/rp/express'
import express, { type NextFunction, type RequestHandler, type Response } from 'express'
import { auth, requiresAuth } from 'express-openid-connect'
import type { Browser, Page } from './browser.ts'
import type { LoginIdp } from './idp.ts'
import { listen } from './listener.ts'

/** One logout request that an RP has received. */
export interface ReceivedLogout {
  readonly token: string
  readonly header: Readonly<Record<string, unknown>>
  /** The claims of the token, read without verification. */
  readonly claims: Readonly<Record<string, unknown>>
  /** The status of the RP's answer. */
  readonly status: number
}

/** A real RP: an Express application with express-openid-connect, and one page that requires a session. */
export interface ExpressRp {
  readonly clientId: string
  readonly url: string
  /** The URI that accepts logout tokens. */
  readonly logoutUri: string
  /** Every logout request that the RP has answered, in order. */
  readonly received: readonly ReceivedLogout[]
  /** Answers the next logout request with this status, as a failing RP does. */
  failNext(status: number): void
  /** Holds the next logout request until the returned function is called. */
  holdNext(): () => void
  /** Refuses connections until `resume`. Sessions are kept. */
  pause(): Promise<void>
  resume(): Promise<void>
  /** Logs in at the IdP, or through the browser's session at the IdP. @returns the sid of the ID token. */
  logIn(browser: Browser, user: string): Promise<string>
  /** The user of the browser's session at this RP, or null. */
  userOf(browser: Browser): Promise<string | null>
  /** Logs out at this RP, which redirects to the logout of the IdP (RP-Initiated Logout). */
  logOut(browser: Browser): Promise<Page>
  close(): Promise<void>
}

export interface ExpressRpOptions {
  readonly name: string
  readonly algorithm?: 'RS256' | 'ES256'
  readonly settings?: RelyingPartySettings
  /** The receiver of logouts: the one of express-openid-connect, or `@curfew/rp`. Default the former. */
  readonly receiver?: 'own' | 'curfew'
}

export async function openExpressRp(
  idp: LoginIdp,
  { name, algorithm = 'RS256', settings, receiver = 'own' }: ExpressRpOptions,
): Promise<ExpressRp> {
  const listener = await listen()
  const { url } = listener
  const logoutUri = `${url}/backchannel-logout`
  const { client_id: clientId, client_secret: clientSecret } = await idp.register(
    {
      client_name: name,
      redirect_uris: [`${url}/callback`],
      post_logout_redirect_uris: [url],
      backchannel_logout_uri: logoutUri,
      id_token_signed_response_alg: algorithm,
    },
    settings,
  )

  // The store of express-openid-connect: it keeps a logout until the ended sessions would have expired.
  const loggedOut = new Map<string, unknown>()
  const ended = new Set<string>()
  const received: ReceivedLogout[] = []
  const hindrances: Hindrance[] = []
  const app = express()
  app.post('/backchannel-logout', recordLogouts(received, hindrances))
  if (receiver === 'curfew') {
    const receive = createLogoutReceiver({
      ...{ issuer: idp.iss, clientId, allowInsecureHttp: true },
      onLogout: ({ sessionId, subject }) => void ended.add(sessionId ?? subject ?? ''),
    })
    app.all('/backchannel-logout', expressLogoutHandler(receive))
  }
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
      backchannelLogout: receiver === 'own' && {
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
    const { sid = '', sub = '' } = request.oidc.user ?? {}
    const hasEnded = ended.has(sid) || ended.has(sub)
    response.json({ sub: hasEnded || sub === '' ? null : sub })
  })
  app.get('/profile', requiresAuth(), (request, response) => {
    response.json(request.oidc.idTokenClaims)
  })
  listener.serve(app)

  return {
    clientId,
    url,
    logoutUri,
    received,
    failNext: (status) => void hindrances.push((response) => response.status(status).end()),
    holdNext() {
      const { promise, resolve } = Promise.withResolvers<void>()
      hindrances.push((_response, next) => void promise.then(() => next()))
      return resolve
    },
    pause: listener.pause,
    resume: listener.resume,
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
    close: () => listener.close(),
  }
}

/** Answers a logout request in the place of the RP, or delays it. */
type Hindrance = (response: Response, next: NextFunction) => void

/** Records each logout request with its answer, and hinders those that a test asks for. */
function recordLogouts(received: ReceivedLogout[], hindrances: Hindrance[]): RequestHandler {
  return async (request, response, next) => {
    const token = new URLSearchParams(await text(request)).get('logout_token') ?? ''
    const [header, claims] = token
      .split('.')
      .slice(0, 2)
      .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString('utf8')))
    response.once('finish', () => received.push({ token, header, claims, status: response.statusCode }))
    // Both receivers take a body that was parsed before.
    request.body = { logout_token: token }
    const hinder = hindrances.shift()
    if (hinder === undefined) next()
    else hinder(response, next)
  }
}
