import { describe, expect, test } from 'vitest'
import { ApiError } from '../client.ts'
import { isAboutEvent, waitMs } from './verdict.ts'

// Goal: only a refusal of the event itself ends its tries. Everything else may pass.

const refusal = (status: number, pointers: readonly string[] | null = [], title = 'Refused') =>
  new ApiError(
    {
      ...{ type: 'about:blank', title, status },
      ...(pointers !== null && { errors: pointers.map((pointer) => ({ pointer, detail: 'is wrong' })) }),
    },
    null,
  )

describe('a refusal', () => {
  test.each([400, 409, 413, 422])('with %i is about the event', (status) => {
    expect(isAboutEvent(refusal(status))).toBe(true)
  })
  test.each([301, 401, 404, 405, 408, 415, 425, 429, 500, 501, 502, 503, 504])(
    'with %i may pass',
    (status) => {
      expect(isAboutEvent(refusal(status))).toBe(false)
    },
  )
  test('with 403 is about the event if it names a member, and else about the key', () => {
    expect(isAboutEvent(refusal(403, ['/iss']))).toBe(true)
    expect(isAboutEvent(refusal(403, null))).toBe(false)
  })
  test.each([
    [400, false],
    [403, false],
    [409, false],
    [413, true],
  ])('with %i of a proxy says something about the event: %j', (status, expected) => {
    expect(isAboutEvent(refusal(status, ['/iss'], `HTTP ${status}`))).toBe(expected)
  })
})

describe('the wait', () => {
  const error = new Error('no answer')
  test('doubles up to ten seconds, of which half is random', () => {
    expect([1, 2, 3, 6, 7, 2_000].map((failures) => waitMs(failures, 0, error))).toEqual([
      125, 250, 500, 4_000, 5_000, 5_000,
    ])
    expect([1, 2_000].map((failures) => Math.round(waitMs(failures, 0.9999, error)))).toEqual([250, 10_000])
  })
  test('is at least Retry-After, of which an hour counts', () => {
    const { problem } = refusal(503)
    expect(waitMs(1, 0, new ApiError(problem, 60_000))).toBe(60_000)
    expect(waitMs(1, 0, new ApiError(problem, 10 ** 12))).toBe(3_600_000)
    expect(waitMs(20, 0, new ApiError(problem, 10))).toBe(5_000)
  })
})
