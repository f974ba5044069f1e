import { describe, expect, test } from 'vitest'
import { DEAD_LETTER_REASONS, deadLetterWords, type LastAttempt } from './dead-letter.ts'

// Goal: a dead letter explains in whole sentences what happened and what to do, for every reason and every last attempt.
// Method: every reason with every kind of attempt; then the cases that differ.

const answered = (status: number, error: string | null = null, errorDescription: string | null = null) => ({
  status,
  errorClass: `http_${status}`,
  error,
  errorDescription,
  location: null,
})
const failed = (errorClass: string, errorDescription: string | null = null): LastAttempt => ({
  status: null,
  errorClass,
  error: null,
  errorDescription,
  location: null,
})
const redirected: LastAttempt = { ...answered(302), location: 'https://idp.example/login?next=…' }
const ATTEMPTS: readonly (LastAttempt | null)[] = [
  null,
  answered(400, 'invalid_request', 'clock skew'),
  answered(302),
  redirected,
  answered(401),
  answered(404),
  answered(429),
  answered(503),
  answered(599, 'constructor'),
  failed('dns'),
  failed('tls', 'self-signed certificate'),
  failed('constructor'),
  failed('unheard_of', 'something'),
]

describe('deadLetterWords', () => {
  test.each([...DEAD_LETTER_REASONS, 'a_reason_of_tomorrow', 'constructor'])(
    'explains %s in whole sentences',
    (reason) => {
      for (const last of ATTEMPTS) {
        const { what, fix } = deadLetterWords(reason, last)
        for (const text of [what, fix]) {
          expect(text).toMatch(/^[A-Z].*\.$/)
          expect(text).not.toMatch(/undefined|null|\[object|function|\.\.| {2}/)
        }
      }
    },
  )

  test.each([
    ['attempts_exhausted', failed('dns'), /its name was not found/, /Correct its DNS name/],
    [
      'attempts_exhausted',
      failed('tls', 'self-signed certificate'),
      /TLS failed \(self-signed/,
      /curfew\.tls\.ca/,
    ],
    ['attempts_exhausted', failed('timeout'), /did not answer in time/, /curfew\.timeout_ms/],
    ['attempts_exhausted', answered(503), /answered 503/, /in its log/],
    ['attempts_exhausted', answered(429), /answered 429/, /rate_per_second/],
    ['unreachable', failed('connection_refused'), /it refused the connection/, /Start the relying party/],
    ['misconfigured', answered(404), /answered 404/, /right address/],
    ['misconfigured', answered(302), /answered 302\.$/, /without a redirect/],
    [
      'misconfigured',
      redirected,
      /answered 302, a redirect to https:\/\/idp\.example\/login\?next=…\.$/,
      /login page means that it demands a session/,
    ],
    ['attempts_exhausted', failed('local', 'no file descriptor'), /Curfew's machine/, /limits/],
    ['refused', answered(400, 'no', 'clock skew'), /400 \(no: clock skew\)/, /in its log/],
    ['endpoint_gone', answered(410), /410 Gone/, /register the relying party again/],
    [
      'binding_disabled',
      failed('binding_disabled', 'on holiday'),
      /disabled.*\(on holiday\)/,
      /Enable the relying party/,
    ],
    ['a_reason_of_tomorrow', null, /a_reason_of_tomorrow/, /release/],
  ] as const)(
    'names the result of the last attempt and the fix for %s after %j',
    (reason, last, what, fix) => {
      const words = deadLetterWords(reason, last)
      expect(words.what).toMatch(what)
      expect(words.fix).toMatch(fix)
    },
  )
})
