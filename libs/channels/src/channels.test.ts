import { DEAD_LETTER_REASONS, type LastAttempt, LEVELS } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import { CHANNELS, channelOf, explain, failureFix } from './index.ts'

// Goal: properties of every channel. It explains each dead letter and its remedy in whole sentences, for every reason, even if
// little is known of the last attempt.

const answered = (status: number, error: string | null = null, errorDescription: string | null = null) => ({
  ...{ status, errorClass: `http_${status}` },
  ...{ error, errorDescription, location: null },
})
const failed = (errorClass: string, errorDescription: string | null = null): LastAttempt => ({
  ...{ status: null, errorClass },
  ...{ error: null, errorDescription, location: null },
})
const ATTEMPTS: readonly (LastAttempt | null)[] = [
  null,
  answered(400, 'invalid_request', 'clock skew'),
  ...[302, 401, 403, 404, 405, 410, 422, 429, 503, 599].map((status) => answered(status)),
  failed('dns'),
  failed('tls', 'self-signed certificate'),
  failed('unheard_of', 'something'),
]

describe.each(CHANNELS.map((channel) => [channel.kind, channel] as const))('%s', (kind, channel) => {
  test('has a kind that the ledger accepts, and channelOf finds it by its kind', () => {
    expect(kind).toMatch(/^[a-z][a-z0-9_]*$/)
    expect(channelOf(kind)).toBe(channel)
    expect(LEVELS).toContain(channel.best)
  })

  test.each([...DEAD_LETTER_REASONS, 'a_reason_of_tomorrow', 'constructor'])(
    'explains %s in whole sentences',
    (reason) => {
      for (const last of ATTEMPTS) {
        const { what, fix } = explain(kind, reason, last)
        for (const text of [what, fix]) {
          expect(text).toMatch(/^[A-Z].*\.$/)
          expect(text).not.toMatch(/undefined|null|\[object|function|\.\.| {2}/)
        }
      }
    },
  )

  test('explains a failure that is repeated without a replay', () => {
    for (const outcome of ['unavailable', 'refused', 'misconfigured', 'undeliverable'])
      for (const last of ATTEMPTS.filter((attempt) => attempt !== null)) {
        const endpoint = { uri: 'https://rp.example/logout', settings: {} }
        const errorClass = outcome === 'undeliverable' ? 'no_encryption_key' : last.errorClass
        const fix = failureFix(kind, { ...last, errorClass, outcome }, endpoint)
        expect(fix).toMatch(/^[A-Z].*\w\. Curfew repeats the delivery by itself\.$/)
        expect(fix).not.toMatch(/replay|undefined|null|\.\./i)
      }
  })
})

test('the general texts have the names of the channel', () => {
  expect(explain('global_revocation', 'endpoint_gone', null).fix).toMatch(
    /the right curfew\.channels\.global_revocation\.uri/,
  )
  expect(explain('global_revocation', 'misconfigured', null).what).toMatch(
    /an endpoint for global token revocation/,
  )
  expect(explain('backchannel', 'client_removed', null).what).toMatch(/its endpoint for back-channel logout/)
})

test('a dead letter of an unknown kind has the general explanation, and channelOf throws for the kind', () => {
  expect(explain('carrier_pigeon', 'refused', answered(400)).what).toMatch(/refused/)
  expect(() => channelOf('carrier_pigeon')).toThrow(/no channel carrier_pigeon/)
})

test.each([
  [answered(400, 'invalid_request', 'clock skew'), 'refused', /400 \(invalid_request: clock skew\)/, /clock/],
  [answered(403), 'misconfigured', /answered 403/, /CSRF/],
  [answered(302), 'misconfigured', /answered 302/, /redirects are not followed/],
  [answered(404), 'misconfigured', /answered 404/, /backchannel_logout_uri/],
  [answered(405), 'misconfigured', /answered 405/, /POST/],
  [answered(410), 'endpoint_gone', /410 Gone/, /backchannel_logout_uri/],
] as const)('back-channel logout explains %j as %s, and how to correct it', (last, reason, what, fix) => {
  const words = explain('backchannel', reason, last)
  expect(words.what).toMatch(what)
  expect(words.fix).toMatch(fix)
})
