import { type Answer, type AttemptOutcome, quicklyRetryable } from '@curfew/domain'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { outcomeOf as decide } from './answer.ts'

const NOW = new Date('2026-11-21T12:00:00Z')

const outcomeOf = (answer: Answer, now: Date, already_ended_errors: readonly string[] = []) =>
  decide(answer, now, { already_ended_errors: [...already_ended_errors] })
const response = (status: number, over: Partial<Extract<Answer, { kind: 'response' }>> = {}): Answer => ({
  kind: 'response',
  status,
  retryAfter: null,
  body: '',
  ...over,
})
const saidBy = (body: string) => {
  const outcome = outcomeOf(response(400, { body }), NOW)
  return outcome.kind === 'refused'
    ? { error: outcome.error, errorDescription: outcome.errorDescription }
    : outcome
}

/** Ranges of statuses and their outcomes. The last range that has a status applies. */
const TABLE: readonly (readonly [from: number, to: number, kind: AttemptOutcome['kind']])[] = [
  [100, 499, 'misconfigured'],
  [500, 599, 'unavailable'],
  [200, 200, 'acknowledged'],
  [204, 204, 'acknowledged'],
  [400, 400, 'refused'],
  [408, 408, 'unavailable'],
  [425, 425, 'unavailable'],
  [429, 429, 'unavailable'],
  [501, 501, 'refused'],
]

describe('outcomeOf', () => {
  test('BCL-14, BCL-15: every status from 100 to 599 falls into its row of the table', () => {
    const statuses = Array.from({ length: 500 }, (_, index) => 100 + index)
    const expected = statuses.map((status) => [
      status,
      TABLE.findLast(([from, to]) => status >= from && status <= to)?.[2],
    ])
    expect(statuses.map((status) => [status, outcomeOf(response(status), NOW).kind])).toEqual(expected)
  })

  test('BCL-15: a missing answer is unavailable, with the failure and without a status', () => {
    expect(
      outcomeOf({ kind: 'failure', failure: 'connection_reset', detail: 'socket hang up' }, NOW),
    ).toEqual({
      kind: 'unavailable',
      status: null,
      failure: 'connection_reset',
      retryAfterMs: null,
      error: null,
      errorDescription: 'socket hang up',
    })
  })

  test('an address that is not allowed is undeliverable', () => {
    expect(outcomeOf({ kind: 'not_allowed', detail: '10.0.0.1 is private' }, NOW)).toEqual({
      kind: 'undeliverable',
      reason: 'address_not_allowed',
      detail: '10.0.0.1 is private',
    })
  })

  test.each([
    ['120', 120_000],
    ['0', 0],
    ['999999999999', 999_999_999_999_000],
    ['Sat, 21 Nov 2026 12:02:00 GMT', 120_000],
    ['Sat, 21 Nov 2026 11:59:00 GMT', null],
    ['Sat, 99 Nov 2026 12:02:00 GMT', null],
    ['2026-11-21T12:02:00Z', null],
    ['-5', null],
    ['1.5', null],
    ['soon', null],
    ['', null],
    [null, null],
  ])('BCL-16: Retry-After of %j is %j ms', (retryAfter, retryAfterMs) => {
    expect(outcomeOf(response(503, { retryAfter }), NOW)).toMatchObject({ retryAfterMs })
  })

  test('BCL-17: without a registered error the body never changes the kind', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 100, max: 599 }),
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc
            .record({ error: fc.string(), error_description: fc.string() })
            .map((said) => JSON.stringify(said)),
        ),
        (status, body) => {
          expect(outcomeOf(response(status, { body }), NOW).kind).toBe(outcomeOf(response(status), NOW).kind)
        },
      ),
    )
  })
})

describe('an answer that means that the session is already over', () => {
  const UNKNOWN = ['unknown_session', 'invalid SID']
  const says = (error: unknown, more: object = {}) => JSON.stringify({ error, ...more })
  const kindOf = (answer: Answer) => outcomeOf(answer, NOW, UNKNOWN).kind

  test.each([
    ['alone', says('unknown_session')],
    ['with any description', says('invalid SID', { error_description: 'The sid was not found' })],
    ['in any JSON', ' {"a":1,\n"error" : "unknown\\u005fsession"} '],
    [
      'beside other members named error',
      '{"b":[{"error":"x"}],"c":"\\"error\\":","error":"unknown_session"}',
    ],
  ])('is acknowledged, with a note, if its error is registered: %s', (_, body) => {
    expect(outcomeOf(response(400, { body }), NOW, UNKNOWN)).toEqual({
      ...{ kind: 'acknowledged', level: 'done', status: 400, note: 'already_ended' },
    })
  })

  test.each([
    ['another spelling', says('Unknown_Session')],
    ['a longer text', says('unknown_session ')],
    [
      'a registered text as the description',
      says('invalid_request', { error_description: 'unknown_session' }),
    ],
    ['an error that is not a text', says(['unknown_session'])],
    ['a list', '[{"error":"unknown_session"}]'],
    ['a text that is not JSON', 'unknown_session'],
    ['an empty body', ''],
    ['a cut body', '{"error":"unknown_session"'],
    ['another error before it', '{"error":"invalid_token","error":"unknown_session"}'],
    ['another error in escapes', '{"\\u0065rror":"invalid_token","a":{"b":[]},"error":"unknown_session"}'],
    ['the same error twice', '{"error":"unknown_session","error":"unknown_session"}'],
  ])('is a refusal with %s', (_, body) => {
    expect(kindOf(response(400, { body }))).toBe('refused')
  })

  test('is decided by the error only with status 400', () => {
    const statuses = Array.from({ length: 500 }, (_, index) => 100 + index)
    const body = says('unknown_session')
    const changed = statuses.filter(
      (status) => kindOf(response(status, { body })) !== outcomeOf(response(status), NOW).kind,
    )
    expect(changed).toEqual([400])
  })

  test('is a refusal if its text is withheld, so that a tenant cannot guess the text of another service', () => {
    expect(kindOf(response(400, { body: says('unknown_session'), restricted: true }))).toBe('refused')
  })
})

describe('the error text of an answer', () => {
  test.each([
    [
      'both members of an OAuth error are kept',
      '{"error":"invalid_request","error_description":"exp is in the past"}',
      { error: 'invalid_request', errorDescription: 'exp is in the past' },
    ],
    [
      'an error alone is kept',
      '{"error":"invalid_request"}',
      { error: 'invalid_request', errorDescription: null },
    ],
    [
      'an error that is not a string is dropped, and its description is kept',
      '{"error":{"code":7},"error_description":"no"}',
      { error: null, errorDescription: 'no' },
    ],
    [
      'other JSON becomes the description',
      '{"status":400,"message":"store down"}',
      { error: null, errorDescription: '{"status":400,"message":"store down"}' },
    ],
    [
      'an HTML page becomes the description',
      '<html>\n<h1>Bad Gateway</h1></html>',
      { error: null, errorDescription: '<html> <h1>Bad Gateway</h1></html>' },
    ],
    ['an empty body has no text', '', { error: null, errorDescription: null }],
    ['the text null becomes the description', 'null', { error: null, errorDescription: 'null' }],
    ['white space has no text', ' \r\n\t', { error: null, errorDescription: null }],
  ])('%s', (_, body, expected) => {
    expect(saidBy(body)).toEqual(expected)
  })

  test('NUL, control and direction characters and lone surrogates are removed: PostgreSQL or a terminal would fail on them', () => {
    expect(saidBy(JSON.stringify({ error: 'a\u0000b\u001b[31mc\u202ed\u2028e\ud800f' }))).toEqual({
      error: 'a b [31mc d e\ufffdf',
      errorDescription: null,
    })
  })

  test('a text of 10,000 characters is cut to 500 without splitting a character', () => {
    const said = saidBy(`x${'😀'.repeat(5_000)}`)
    expect(said).toMatchObject({ errorDescription: expect.stringMatching(/^x(😀)+\ufffd?$/u) })
    const text = 'errorDescription' in said ? (said.errorDescription ?? '') : ''
    expect(text.length).toBeLessThanOrEqual(500)
    expect(text.length).toBeGreaterThan(490)
  })

  test('the kept text of any answer is short, well formed and without control characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 3_000 }), fc.boolean(), (text, json) => {
        const said = saidBy(json ? JSON.stringify({ error: text, error_description: text }) : text)
        for (const kept of Object.values(said)) {
          if (typeof kept !== 'string') continue
          expect(kept.length).toBeLessThanOrEqual(500)
          expect(kept.isWellFormed()).toBe(true)
          expect(kept).not.toMatch(/\p{Cc}/u)
          expect(kept).toBe(kept.trim())
          expect(kept).not.toBe('')
        }
      }),
    )
  })
})

describe('quicklyRetryable', () => {
  test.each([
    [{ kind: 'failure', failure: 'timeout', detail: '' } as const, true],
    [{ kind: 'failure', failure: 'tls', detail: '' } as const, true],
    [response(500), true],
    [response(503), true],
    [response(503, { retryAfter: '1' }), false],
    [response(503, { retryAfter: '0' }), false],
    [response(408), false],
    [response(425), false],
    [response(429), false],
    [response(400), false],
    [response(501), false],
    [response(302), false],
    [response(404), false],
    [response(200), false],
    [{ kind: 'not_allowed', detail: '' } as const, false],
  ])('%j: %j', (answer, expected) => {
    expect(quicklyRetryable(outcomeOf(answer, NOW))).toBe(expected)
  })
})
