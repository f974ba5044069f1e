import type { Answer, SessionToken } from '@curfew/domain'
import type { Tools } from '../channel.ts'
import { basicOf, formEncoded } from '../client-auth.ts'
import { withoutCredential } from '../credential.ts'
import type { RevocationSettings } from './settings.ts'

/** The lifetime of an assertion, in seconds. */
const LIFETIME_S = 120

/** A request without its address. `secrets` are the texts in it that no answer may bring into the ledger. */
export interface Request {
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly secrets: readonly string[]
}

/** The client that Curfew authenticates as, and the issuer of its tokens. */
export interface Client {
  readonly clientId: string
  readonly iss: string
}

/** The credential of a request: parts of its headers and form. */
interface Credential {
  readonly authorization?: string
  readonly form: Readonly<Record<string, string>>
  readonly secrets: readonly string[]
}

export const NO_CREDENTIAL: Credential = { form: {}, secrets: [] }

/** Makes the credential of one request (RFC 7009 section 2.1, RFC 6749 section 2.3). An assertion is valid for one request. */
export async function credentialFor(
  { method, client_id, algorithm, audience }: RevocationSettings,
  client: Client,
  tools: Pick<Tools, 'secret' | 'assertion' | 'newId'> & { readonly now: () => Date },
): Promise<Credential> {
  const clientId = client_id ?? client.clientId
  switch (method) {
    case 'client_secret_basic': {
      const secret = await tools.secret()
      const basic = basicOf(clientId, secret)
      return { authorization: `Basic ${basic}`, form: {}, secrets: [secret, formEncoded(secret), basic] }
    }
    case 'client_secret_post': {
      const secret = await tools.secret()
      const form = { client_id: clientId, client_secret: secret }
      return { form, secrets: [secret, formEncoded(secret)] }
    }
    case 'client_secret_jwt':
    case 'private_key_jwt': {
      const iat = Math.floor(tools.now().getTime() / 1_000)
      const names = { iss: clientId, sub: clientId, aud: audience ?? client.iss, jti: tools.newId() }
      const assertion = await tools.assertion(algorithm, { ...names, iat, exp: iat + LIFETIME_S })
      const type = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
      const form = { client_id: clientId, client_assertion_type: type, client_assertion: assertion }
      return { form, secrets: [assertion] }
    }
    case 'tls_client_auth':
    case 'self_signed_tls_client_auth':
    case 'none':
      return { form: { client_id: clientId }, secrets: [] }
  }
}

/** The request that revokes one token (RFC 7009 section 2.1). */
export function requestOf({ token, hint }: SessionToken, credential: Credential): Request {
  const { authorization, form, secrets } = credential
  return {
    headers: {
      ...(authorization !== undefined && { authorization }),
      'content-type': 'application/x-www-form-urlencoded',
      accept: 'application/json',
      'user-agent': 'curfew',
    },
    body: new URLSearchParams({
      token,
      ...(hint !== null && { token_type_hint: hint }),
      ...form,
    }).toString(),
    secrets: [token, formEncoded(token), ...secrets],
  }
}

/** An answer without the secrets of its request. */
export function withoutSecrets(answer: Answer, { secrets }: Pick<Request, 'secrets'>): Answer {
  return [...new Set(secrets)].reduce(withoutCredential, answer)
}
