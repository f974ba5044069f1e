import { createHash, randomBytes } from 'node:crypto'
import type { Browser } from '../browser.ts'
import type { Idp } from '../idp.ts'
import { listen } from '../listener.ts'

/** An application that calls an API with the access tokens of its users. */
export interface ApiClient {
  /** Logs in at the IdP, or through the browser's session there. @returns a JWT access token for the API. */
  logIn(browser: Browser, user: string): Promise<string>
  close(): Promise<void>
}

/** @param resource the identifier of the API, which becomes the `aud` of its tokens. */
export async function openApiClient(idp: Idp, resource: string): Promise<ApiClient> {
  const listener = await listen()
  listener.serve((_request, response) => void response.end('ok'))
  const redirectUri = `${listener.url}/callback`
  const client = await idp.register({
    client_name: 'app',
    redirect_uris: [redirectUri],
    backchannel_logout_uri: `${listener.url}/logout`,
    id_token_signed_response_alg: 'ES256',
  })

  return {
    async logIn(browser, user) {
      const verifier = randomBytes(32).toString('base64url')
      const asked = new URLSearchParams({
        ...{ client_id: client.client_id, response_type: 'code', redirect_uri: redirectUri },
        ...{ scope: 'openid read', resource, code_challenge_method: 'S256' },
        code_challenge: createHash('sha256').update(verifier).digest('base64url'),
      })
      const page = await idp.logIn(browser, await browser.open(`${idp.iss}/auth?${asked}`), user)
      const code = new URL(page.url).searchParams.get('code')
      if (code === null) throw new Error(`${user} could not log in: ${page.url} ${page.body}`)
      const answer = await fetch(`${idp.iss}/token`, {
        method: 'POST',
        headers: { authorization: `Basic ${btoa(`${client.client_id}:${client.client_secret}`)}` },
        body: new URLSearchParams({
          ...{ grant_type: 'authorization_code', code, redirect_uri: redirectUri, resource },
          code_verifier: verifier,
        }),
      })
      const tokens = (await answer.json()) as { readonly access_token?: string }
      if (tokens.access_token === undefined) throw new Error(JSON.stringify(tokens))
      return tokens.access_token
    },
    close: listener.close,
  }
}
