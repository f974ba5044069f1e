import type { Answer } from '@curfew/domain'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { PROBE_REQUEST_IDS } from './requests.ts'
import { runProbe } from './run.ts'

// Goal: a probe of a slow endpoint ends in time.
// Method: an endpoint that accepts good tokens at once and never answers forged ones. Time is virtual, because the test would
// take a minute in real time.

beforeEach(() => vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'Date'] }))
afterEach(() => vi.useRealTimers())

test('the probe of an endpoint that never answers forged tokens ends within a minute, and unsent requests have unknown checks', async () => {
  const post = ({ body, timeoutMs }: { body: string; timeoutMs: number }): Promise<Answer> => {
    if (body.includes('logout_token=issuer'))
      return Promise.resolve({ kind: 'response', status: 200, retryAfter: null, body: '' })
    const { promise, resolve } = Promise.withResolvers<Answer>()
    setTimeout(() => resolve({ kind: 'failure', failure: 'timeout', detail: 'none came' }), timeoutMs)
    return promise
  }
  const startedMs = performance.now()
  const running = runProbe(
    {
      iss: 'https://idp.example',
      clientId: 'rp',
      uri: 'https://rp.example/',
      settings: {
        ...{ subject_claims: 'both', session_required: false, algorithm: 'ES256', encryption: null },
        ...{ token_type: 'logout+jwt', already_ended_errors: [] },
      },
      timeoutMs: 30_000,
    },
    {
      http: { post, get: post as never, send: post as never, inspectTls: async () => null },
      forge: async (_typ, _claims, { signature = 'issuer' } = {}) => signature,
      encrypt: async (_typ, token) => token,
      secret: async () => '',
      assertion: async () => '',
      newId: () => crypto.randomUUID(),
      onProgress: () => undefined,
    },
  )
  let ended = false
  void running.then(() => {
    ended = true
  })
  while (!ended) await vi.advanceTimersByTimeAsync(1_000)
  const { checks, sent } = await running
  expect(performance.now() - startedMs).toBeLessThan(60_000)
  expect(sent).toBeLessThan(PROBE_REQUEST_IDS.length)
  expect(checks.find(({ id }) => id === 'good_token')?.result).toBe('passed')
  expect(checks.find(({ id }) => id === 'oversize')).toMatchObject({
    result: 'unknown',
    what: expect.stringContaining('all the time'),
  })
})
