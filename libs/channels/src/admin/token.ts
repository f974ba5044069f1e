import {
  type Answer,
  type AttemptOutcome,
  type Binding,
  errorTextOf,
  isNotNow,
  unanswered,
  unavailable,
} from '@curfew/domain'
import type { Tools } from '../channel.ts'
import { basicOf, formEncoded } from '../client-auth.ts'
import { withoutCredential } from '../credential.ts'
import type { TokenRequest } from './settings.ts'

/** The answer of a token endpoint (RFC 6749 section 5): an access token with its end in milliseconds since 1970, or why there is none. */
export type Fetched =
  | { readonly token: string; readonly endsAtMs: number }
  | { readonly outcome: AttemptOutcome; readonly answer: Answer }

/** The tools for a request at a token endpoint. */
export interface TokenTools extends Pick<Tools, 'secret'> {
  now(): Date
  send(request: Parameters<Tools['http']['send']>[0]): Promise<Answer>
}

/** The lifetime of an access token without `expires_in`, and the greatest one, in seconds. */
const LIFETIME_S = 60
const LIFETIME_S_MAX = 86_400
/** The greatest time before its end at which a token is fetched again, in milliseconds. A request must arrive before the end. */
const EARLY_MS = 30_000

/** Fetches an access token (RFC 6749 section 4.4). */
export async function fetchToken(request: TokenRequest, tools: TokenTools): Promise<Fetched> {
  const secret = await tools.secret()
  const basic = basicOf(request.client_id, secret)
  const isBasic = request.method === 'client_secret_basic'
  const body = new URLSearchParams({
    grant_type: 'client_credentials',
    ...(!isBasic && { client_id: request.client_id, client_secret: secret }),
    ...(request.scope !== null && { scope: request.scope }),
    ...(request.audience !== null && { audience: request.audience }),
  })
  const answer = await tools.send({
    method: 'POST',
    uri: request.endpoint,
    headers: {
      ...(isBasic && { authorization: `Basic ${basic}` }),
      'content-type': 'application/x-www-form-urlencoded',
      accept: 'application/json',
      'user-agent': 'curfew',
    },
    body: body.toString(),
  })
  const masked = [secret, formEncoded(secret), basic].reduce(withoutCredential, answer)
  const token = answer.kind === 'response' && answer.status === 200 ? tokenIn(answer.body) : null
  if (token === null) return { outcome: outcomeOf(masked, tools.now()), answer: masked }
  const lifetimeMs = Math.min(token.lifetimeS, LIFETIME_S_MAX) * 1_000
  const endsAtMs = tools.now().getTime() + lifetimeMs - Math.min(EARLY_MS, lifetimeMs / 4)
  return { token: token.value, endsAtMs }
}

/** The access token in the body of an answer; null if there is none that a header can have. */
function tokenIn(body: string): { readonly value: string; readonly lifetimeS: number } | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    // No JSON, so no token. The outcome says so.
    return null
  }
  if (typeof parsed !== 'object' || parsed === null) return null
  const { access_token: value, expires_in: expiresIn } = parsed as Readonly<Record<string, unknown>>
  if (typeof value !== 'string' || !/^[\x21-\x7e]{1,12000}$/.test(value)) return null
  const seconds = Number(expiresIn ?? LIFETIME_S)
  return { value, lifetimeS: Number.isFinite(seconds) && seconds >= 0 ? seconds : LIFETIME_S }
}

/** The begin of the text of an attempt that got no access token. */
export const TOKEN_ENDPOINT = 'The token endpoint'

/** The outcome of an attempt that got no access token. */
function outcomeOf(answer: Answer, now: Date): AttemptOutcome {
  if (answer.kind !== 'response') {
    const outcome = unanswered(answer)
    if (outcome.kind !== 'unavailable') return outcome
    return { ...outcome, errorDescription: `${TOKEN_ENDPOINT} gave no answer: ${outcome.errorDescription}` }
  }
  if (isNotNow(answer.status)) {
    const outcome = unavailable(answer, now)
    return outcome.kind === 'unavailable'
      ? { ...outcome, errorDescription: said('is not available', outcome.errorDescription) }
      : outcome
  }
  // An answer of success may have a token in an unknown form, so nothing of it is kept.
  if (answer.status >= 200 && answer.status < 300) {
    const errorDescription = `${TOKEN_ENDPOINT} answered ${answer.status} without an access_token that can be sent in a header`
    return { kind: 'misconfigured', status: answer.status, error: null, errorDescription }
  }
  const { errorDescription, ...text } = errorTextOf(answer)
  return {
    ...{ kind: 'misconfigured', status: answer.status, ...text },
    errorDescription: said('refused the client', errorDescription),
  }
}

function said(what: string, description: string | null): string {
  return description === null ? `${TOKEN_ENDPOINT} ${what}` : `${TOKEN_ENDPOINT} ${what}: ${description}`
}

/** The access token for a request, and whether it was fetched for it. */
export type TokenOf = (
  binding: Pick<Binding, 'id' | 'sealedSecret'>,
  request: TokenRequest,
  tools: TokenTools,
  refused: string | null,
) => Promise<{ readonly token: string; readonly fresh: boolean } | { readonly outcome: AttemptOutcome }>

/**
 * Keeps one access token for each binding in memory, until shortly before its end. While one is fetched, other attempts wait for it.
 * A token that the API refused (`refused`), and one of an earlier registration, is fetched again.
 */
export function createTokens(): TokenOf {
  interface Held {
    readonly registered: string
    readonly fetched: Promise<Fetched>
  }
  const held = new Map<Binding['id'], Held>()

  return async ({ id, sealedSecret }, request, tools, refused) => {
    const registered = JSON.stringify([sealedSecret, request])
    for (;;) {
      const known = held.get(id)
      if (known?.registered !== registered) break
      const fetched = await known.fetched
      if ('outcome' in fetched) return fetched
      if (fetched.token !== refused && tools.now().getTime() < fetched.endsAtMs)
        return { token: fetched.token, fresh: false }
      // Unless another attempt has replaced it meanwhile, this attempt does.
      if (held.get(id) === known) break
    }
    const entry = { registered, fetched: fetchToken(request, tools) }
    held.set(id, entry)
    const forget = () => {
      if (held.get(id) === entry) held.delete(id)
    }
    try {
      const fetched = await entry.fetched
      if ('token' in fetched) return { token: fetched.token, fresh: true }
      forget()
      return fetched
    } catch (error) {
      forget()
      throw error
    }
  }
}
