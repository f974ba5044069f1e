import type { LastAttempt } from '@curfew/domain'
import { isRefusal } from './already-ended.ts'

// The texts by which libraries of relying parties refuse a logout token, and how to correct the cause. They change the advice of a
// dead letter, never the decision. known-answers.test.ts has an answer of each library.

/** The registered settings of the endpoint that the advice depends on; null if they are unknown. */
export interface AdviceContext {
  readonly algorithm: string | null
  readonly tokenType: string | null
}

type Last = Pick<LastAttempt, 'error' | 'errorDescription' | 'status'>

interface KnownAnswer {
  /** Matches the text of the answer: `error: error_description`. */
  readonly says: RegExp
  fix(context: AdviceContext, last: Last): string
}

const PUBLISHED =
  "Check with curfew doctor that the identity provider publishes Curfew's public key at its jwks_uri. Then let the relying party fetch the keys again, for example by a restart."

const registeredAs = (algorithm: string | null) =>
  algorithm === null ? '' : ` It is registered for ${algorithm}.`

function springFix({ algorithm }: AdviceContext): string {
  const only = 'Spring Security accepts logout tokens in RS256 only, whatever the ID tokens have.'
  if (algorithm === 'RS256') return `It is registered for RS256, so it does not find the key. ${PUBLISHED}`
  const register = `Register id_token_signed_response_alg RS256.${registeredAs(algorithm)} ${only}`
  return algorithm === null ? `${register} If that is registered: ${lowerFirst(PUBLISHED)}` : register
}

function algorithmFix({ algorithm }: AdviceContext, { error, errorDescription }: Last): string {
  const text = `${error ?? ''} ${errorDescription ?? ''}`
  // The message of go-oidc names the expected algorithms.
  const expected = /expected \[?"?((?:RS|PS|ES)\d{3}|EdDSA)/.exec(text)?.[1]
  const which = expected === undefined ? 'the algorithm that it expects' : expected
  return `Register ${which} as id_token_signed_response_alg, or let the relying party accept the registered one.${registeredAs(algorithm)}`
}

function typeFix({ tokenType }: AdviceContext): string {
  const registered =
    tokenType === null ? '' : ` Its tokens have ${tokenType === 'none' ? 'no typ' : `typ ${tokenType}`}.`
  return `It refuses the typ of the token.${registered} Probe it, and register the suggested curfew.token_type.`
}

function sessionFix(_: AdviceContext, { error }: Last): string {
  const start =
    'It refuses a logout of a session that it does not know, which the specification takes for a success (Back-Channel Logout 2.7). Update it, or make it answer 200.'
  if (error === null || isRefusal(error)) return start
  return `${start} If it answers a forged token otherwise, you can instead register its error as curfew.already_ended_errors: ${JSON.stringify([error])}.`
}

const AUDIENCE =
  'It expects another audience (aud). Register the relying party under the client_id that it has at the identity provider.'
const ISSUER =
  "It expects another issuer (iss). Compare the iss of the issuer in Curfew with the issuer in the relying party's configuration, character by character, also a trailing slash."
const CLOCK = 'Set its clock, and the clock of Curfew: they differ by more than the relying party tolerates.'

/** The first entry that matches applies. */
const KNOWN_ANSWERS: readonly KnownAnswer[] = [
  // Spring Security.
  { says: /Another algorithm expected, or no matching key\(s\) found/, fix: springFix },
  {
    says: /not all sessions were terminated/,
    fix: () =>
      'Spring Security ends a session by a request of the application to itself, and that failed. Set OidcBackChannelLogoutHandler.setLogoutUri to an address at which the application reaches itself, and setSessionCookieName to the name of its cookie.',
  },
  // Nimbus, jose, Microsoft.IdentityModel.
  {
    says: /JOSE header "?typ"? \(type\)|unexpected "typ" JWT header value|IDX10257|typ (is|must be) |(unexpected|wrong|invalid|unsupported) (token )?"?typ"?\b/i,
    fix: typeFix,
  },
  // jose, PyJWT, go-oidc, ruby-jwt, Authlib.
  {
    says: /"alg" \(Algorithm\) Header Parameter value not allowed|specified alg value is not allowed|unsupported algorithm|Expected a different algorithm|unsupported_algorithm|alg is not /i,
    fix: algorithmFix,
  },
  // Spring Security, jose, PyJWT, go-oidc, Microsoft.IdentityModel, Nextcloud.
  {
    says: /aud claim value must include|unexpected "aud" claim value|invalid.audience|Audience doesn't match|expected audience|IDX10214|IDX10206/i,
    fix: () => AUDIENCE,
  },
  {
    says: /iss claim value must match|unexpected "iss" claim value|invalid.iss(uer)?\b|issued by a different provider|IDX10205|No Identity Provider has been found/i,
    fix: () => ISSUER,
  },
  {
    says: /"(exp|iat|nbf)" claim timestamp check failed|Jwt expired at|Signature has expired|not yet valid|token is expired|expired token|invalid exp\b|IDX102(22|23)/i,
    fix: () => CLOCK,
  },
  // jose, Nimbus, PyJWT, firebase/php-jwt, go-oidc, Microsoft.IdentityModel, Keycloak, matrix-authentication-service.
  {
    says: /no applicable key found|signature verification failed|failed to verify (signature|logout token)|Invalid signature|Unable to find a signing key|"kid" invalid|IDX105\d\d|LogoutToken verification with identity provider failed/i,
    fix: () => `It cannot verify the signature. ${PUBLISHED}`,
  },
  // Nextcloud user_oidc, and the usual words.
  {
    says: /The sid of the logout token was not found|No session was found for this|No session found|nothing found with sub|unknown[ _-]session|session[ _-](is[ _-])?(not[ _-]found|unknown)|no[ _-]such[ _-]session/i,
    fix: sessionFix,
  },
  // Nextcloud user_oidc, matrix-authentication-service.
  {
    says: /provider was not found in Nextcloud|Upstream OAuth provider not found/,
    fix: () =>
      'Register the backchannel_logout_uri that the relying party shows for this identity provider: its path has the id of another one.',
  },
  // express-openid-connect, Keycloak.
  {
    says: /The application failed to invalidate the session|There was an error in the local logout/,
    fix: () =>
      'It accepted the token, but could not end the session. Look in its log, and check its session store.',
  },
  // mod_auth_openidc: the error page of Apache.
  {
    says: /Your browser sent a request that this server could not understand/,
    fix: () =>
      "The reason is in Apache's error log only, because mod_auth_openidc does not send it. Frequent reasons are an old copy of the issuer's keys, another id_token_signed_response_alg than OIDCIDTokenSignedResponseAlg, and a wrong clock.",
  },
]

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1)
}

/** How to correct the cause of an answer whose text is known; null if it is not. */
export function knownFix(last: Last, context: AdviceContext): string | null {
  const text = [last.error, last.errorDescription].filter((part) => part !== null).join(': ')
  if (text === '') return null
  const known = KNOWN_ANSWERS.find(({ says }) => says.test(text))
  return known === undefined ? null : known.fix(context, last)
}

/** Words of a refusal by CSRF protection: of Spring, Django, Rails, Laravel, ASP.NET, Express and others. */
const CSRF =
  /csrf|xsrf|anti-?forgery|authenticity.?token|page expired|the change you wanted was rejected|cross.site/i

/** Whether the text of an answer is about CSRF protection. */
export function isAboutCsrf({ error, errorDescription }: Omit<Last, 'status'>): boolean {
  return CSRF.test(`${error ?? ''} ${errorDescription ?? ''}`)
}
