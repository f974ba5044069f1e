import { createHash, randomBytes } from 'node:crypto'
import { openBrowser } from './browser.ts'
import type { LoginIdp } from './idp.ts'
import { listen } from './listener.ts'

/** The tokens of one login. */
export interface Tokens {
  readonly sub: string
  readonly sid: string
  readonly refreshToken: string
  readonly accessToken: string
}

/** A client that logs users in with the authorization code flow, and gets a refresh token. */
export interface CodeClient {
  readonly redirectUri: string
  logIn(user: string, client: { readonly id: string; readonly secret: string }): Promise<Tokens>
  close(): Promise<void>
}

/** @param endpoints of the provider. */
export async function openCodeClient(
  idp: Pick<LoginIdp, 'logIn'>,
  endpoints: { readonly authorization: string; readonly token: string },
): Promise<CodeClient> {
  const listener = await listen()
  listener.serve((_request, response) => void response.end('back at the client'))
  const redirectUri = `${listener.url}/callback`
  return {
    redirectUri,
    async logIn(user, client) {
      const verifier = randomBytes(32).toString('base64url')
      const challenge = createHash('sha256').update(verifier).digest('base64url')
      const browser = openBrowser()
      const query = new URLSearchParams({
        ...{ client_id: client.id, response_type: 'code', redirect_uri: redirectUri, prompt: 'consent' },
        ...{ scope: 'openid offline_access', code_challenge: challenge, code_challenge_method: 'S256' },
      })
      const page = await idp.logIn(browser, await browser.open(`${endpoints.authorization}?${query}`), user)
      const code = new URL(page.url).searchParams.get('code')
      if (code === null) throw new Error(`no code at ${page.url}: ${page.body}`)
      const response = await fetch(endpoints.token, {
        method: 'POST',
        headers: { authorization: `Basic ${btoa(`${client.id}:${client.secret}`)}` },
        body: new URLSearchParams({
          ...{ grant_type: 'authorization_code', code, redirect_uri: redirectUri, code_verifier: verifier },
        }),
      })
      const answer = (await response.json()) as Readonly<Record<string, string>>
      const { id_token = '', refresh_token: refreshToken, access_token: accessToken } = answer
      if (refreshToken === undefined || accessToken === undefined) throw new Error(JSON.stringify(answer))
      const claims = Buffer.from(id_token.split('.')[1] ?? '', 'base64url').toString('utf8')
      const { sub, sid } = JSON.parse(claims) as { readonly sub: string; readonly sid: string }
      return { sub, sid, refreshToken, accessToken }
    },
    close: listener.close,
  }
}
