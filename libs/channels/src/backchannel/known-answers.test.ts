import { errorTextOf } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import { explain } from '../index.ts'
import { isAboutCsrf, knownFix } from './known-answers.ts'

// Goal: the advice for a dead letter names the cause that the library of the relying party reported.
// Method: the bodies that the libraries send, from their sources.

const oauth = (error: string, error_description: string, more: object = {}) =>
  JSON.stringify({ error, error_description, ...more })
const spring = (description: string, error = 'invalid_request') =>
  oauth(error, description, {
    error_uri: 'https://openid.net/specs/openid-connect-backchannel-1_0.html#Validation',
  })
const DECODE = 'An error occurred while attempting to decode the Jwt: '
const ES256 = { algorithm: 'ES256', tokenType: 'logout+jwt' }
const fixOf = (body: string, context: Parameters<typeof knownFix>[1] = ES256, status = 400) =>
  knownFix({ status, ...errorTextOf({ body }) }, context)

const KEY = /doctor .*publishes Curfew's public key/
const ALGORITHM = /id_token_signed_response_alg, or let .* registered for ES256/
const AUDIENCE = /another audience/
const ISSUER = /another issuer/
const CLOCK = /Set its clock/
const TYPE = /typ logout\+jwt.* suggested curfew\.token_type/
const SESSION = /Back-Channel Logout 2\.7/

test.each<[library: string, body: string, fix: RegExp]>([
  [
    'Spring Security, another algorithm',
    spring(`${DECODE}Signed JWT rejected: Another algorithm expected, or no matching key(s) found`),
    /^Register id_token_signed_response_alg RS256\. It is registered for ES256\. Spring Security accepts/,
  ],
  ['Spring Security, signature', spring(`${DECODE}Signed JWT rejected: Invalid signature`), KEY],
  [
    'Spring Security, audience',
    spring(`${DECODE}aud claim value must include \`ClientRegistration#getClientId\``),
    AUDIENCE,
  ],
  [
    'Spring Security, issuer',
    spring(`${DECODE}iss claim value must match \`ClientRegistration#getProviderDetails#getIssuerUri\``),
    ISSUER,
  ],
  ['Spring Security, clock', spring(`${DECODE}Jwt expired at 2026-11-30T22:00:00Z`), CLOCK],
  ['Spring Security, typ', spring(`${DECODE}JOSE header typ (type) logout+jwt not allowed`), TYPE],
  [
    'Spring Security, session',
    spring('not all sessions were terminated: [403 on POST request]', 'partial_logout'),
    /setLogoutUri/,
  ],
  ['RFC 6750 words, typ', oauth('invalid_token', 'unexpected typ logout+jwt'), TYPE],
  ['RFC 6750 words, quoted typ', oauth('invalid_token', 'Invalid token typ: "logout+jwt"'), TYPE],
  [
    'jose, algorithm',
    oauth('invalid_request', '"alg" (Algorithm) Header Parameter value not allowed'),
    ALGORITHM,
  ],
  ['jose, no key', oauth('invalid_request', 'no applicable key found in the JSON Web Key Set'), KEY],
  ['jose, signature', oauth('invalid_request', 'signature verification failed'), KEY],
  ['jose, issuer', oauth('invalid_request', 'unexpected "iss" claim value'), ISSUER],
  ['jose, audience', oauth('invalid_request', 'unexpected "aud" claim value'), AUDIENCE],
  ['jose, clock', oauth('invalid_request', '"exp" claim timestamp check failed'), CLOCK],
  ['jose, typ', oauth('invalid_request', 'unexpected "typ" JWT header value'), TYPE],
  [
    'express-openid-connect, session store',
    oauth('application_error', 'The application failed to invalidate the session.'),
    /session store/,
  ],
  ['Keycloak, issuer', oauth('invalid_request', 'No Identity Provider has been found'), ISSUER],
  [
    'Keycloak, signature',
    oauth('invalid_request', 'LogoutToken verification with identity provider failed'),
    KEY,
  ],
  ['Keycloak, logout', oauth('server_error', 'There was an error in the local logout'), /session store/],
  ['Nextcloud, session of 7.3', oauth('invalid SID', 'The sid of the logout token was not found'), SESSION],
  [
    'Nextcloud, session of 8.9',
    oauth('invalid SID, SUB or ISS', 'No session was found for this (sid,sub,iss)'),
    /already_ended_errors: \["invalid SID, SUB or ISS"\]\./,
  ],
  ['Nextcloud, subject', oauth('nothing found with sub+iss', 'No session found with sub+iss'), SESSION],
  [
    'Nextcloud, audience',
    oauth('invalid audience', 'The audience of the logout token does not match the provider'),
    AUDIENCE,
  ],
  [
    'Nextcloud, issuer',
    oauth('invalid iss', 'The iss of the logout token does not match the issuer'),
    ISSUER,
  ],
  [
    'Nextcloud, provider',
    oauth('provider not found', 'The provider was not found in Nextcloud'),
    /its path has the id/,
  ],
  ['Matrix, signature', oauth('invalid_request', 'failed to verify logout token'), KEY],
  [
    'Matrix, provider',
    oauth('invalid_request', 'Upstream OAuth provider not found, is the backchannel logout URI right?'),
    /its path has the id/,
  ],
  ['PyJWT, algorithm', '{"detail":"The specified alg value is not allowed"}', ALGORITHM],
  ['PyJWT, audience', '{"detail":"Audience doesn\'t match"}', AUDIENCE],
  ['PyJWT, clock', '{"detail":"Signature has expired"}', CLOCK],
  [
    'go-oidc, algorithm',
    'oidc: id token signed with unsupported algorithm, expected ["RS256"] got "ES256"',
    /^Register RS256 as id_token_signed_response_alg/,
  ],
  ['go-oidc, signature', 'failed to verify signature: failed to verify id token signature', KEY],
  [
    'Microsoft.IdentityModel, key',
    oauth(
      'invalid_token',
      "IDX10503: Signature validation failed. Token does not have a kid. Keys tried: ''.",
    ),
    KEY,
  ],
  ['Microsoft.IdentityModel, audience', 'IDX10214: Audience validation failed.', AUDIENCE],
  ['Microsoft.IdentityModel, issuer', 'IDX10205: Issuer validation failed.', ISSUER],
  ['Microsoft.IdentityModel, typ', 'IDX10257: Type validation failed.', TYPE],
  [
    'mod_auth_openidc',
    '<html><head><title>400 Bad Request</title></head><body><h1>Bad Request</h1><p>Your browser sent a request that this server could not understand.<br /></p></body></html>',
    /Apache's error log/,
  ],
])('%s', (_, body, fix) => {
  const found = fixOf(body)
  expect(found).toMatch(fix)
  expect(found).toMatch(/^[A-Z].*[^.]\.$/)
})

describe('the text of Spring Security about algorithms and keys', () => {
  const text = spring(`${DECODE}Signed JWT rejected: Another algorithm expected, or no matching key(s) found`)

  test('is about the key if the endpoint is registered for RS256', () => {
    const fix = fixOf(text, { algorithm: 'RS256', tokenType: null })
    expect(fix).toMatch(KEY)
    expect(fix).not.toMatch(/Register/)
  })

  test('names both causes if the registered algorithm is unknown', () => {
    const fix = fixOf(text, { algorithm: null, tokenType: null })
    expect(fix).toMatch(
      /^Register id_token_signed_response_alg RS256.*If that is registered: check with curfew doctor/,
    )
  })
})

test.each(['', '{"error":"invalid_request"}', 'Bad Request', oauth('invalid_request', 'something else')])(
  'an unknown text has no advice of its own: %s',
  (body) => {
    expect(fixOf(body)).toBeNull()
  },
)

test.each([
  'CSRF verification failed. Request aborted.',
  '{"message":"CSRF token mismatch."}',
  'Invalid CSRF Token',
  '<h1>The change you wanted was rejected.</h1>',
  "ActionController::InvalidAuthenticityToken: Can't verify CSRF token authenticity.",
  'The required antiforgery cookie is not present.',
  '<title>Page Expired</title>',
])('a refusal by CSRF protection is known by its words: %s', (body) => {
  expect(isAboutCsrf(errorTextOf({ body }))).toBe(true)
})

describe('a dead letter', () => {
  const last = (status: number, body: string, location: string | null = null) => ({
    ...{ status, errorClass: `http_${status}`, ...errorTextOf({ body }), location },
  })
  const endpoint = { uri: 'https://shop.example/logout', settings: { algorithm: 'ES256' } }
  const fix = (
    reason: 'refused' | 'misconfigured' | 'attempts_exhausted',
    attempt: ReturnType<typeof last>,
  ) => explain('backchannel', reason, attempt, endpoint).fix

  test('has the advice for the text of its last answer, with the registered algorithm', () => {
    const text = spring(
      `${DECODE}Signed JWT rejected: Another algorithm expected, or no matching key(s) found`,
    )
    expect(fix('refused', last(400, text))).toMatch(/RS256\. It is registered for ES256\..* Then replay\.$/)
    expect(fix('attempts_exhausted', last(500, '{"message":"Signature verification failed"}'))).toMatch(KEY)
    expect(
      fix('misconfigured', last(404, oauth('invalid_request', 'Upstream OAuth provider not found'))),
    ).toMatch(/its path has the id/)
  })

  test.each([
    [403, 'Invalid CSRF Token', /^Exclude the endpoint from CSRF protection/],
    [419, '', /without a login, cookie or CSRF token/],
    [422, 'The change you wanted was rejected.', /^Exclude the endpoint from CSRF protection/],
    [405, '', /accept POST/],
    [415, '', /application\/x-www-form-urlencoded/],
    [200, '', /answers 200 or 204/],
  ])('with status %d and the text %j has the advice %s', (status, body, advice) => {
    expect(fix('misconfigured', last(status, body))).toMatch(advice)
  })

  test('for a redirect to a login page never says to register that page', () => {
    const advice = fix('misconfigured', last(302, '', '/login?next=/logout'))
    expect(advice).toMatch(/demands a session/)
    expect(advice).not.toMatch(/Register/)
    expect(fix('misconfigured', last(308, '', '/logout/'))).toMatch(
      /^Register https:\/\/shop\.example\/logout\/ as/,
    )
  })
})
