import type { LogoutTokenClaims } from '@curfew/channels'
import {
  type Answer,
  type Binding,
  ClientKeyError,
  DEFAULT_RETRY_POLICY,
  type InFlightDelivery,
  SigningKeyError,
} from '@curfew/domain'
import type { Registry } from '@curfew/ledger'
import { createLog } from '@curfew/runtime'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type AttemptDeps, createAttempt } from './attempt.ts'

// Goal: attempts send the right POSTs, the right number of times, and report the right outcome. Method: the test passes in the
// functions that reach the outside. p-retry is real, over a clock that the test drives.

const NOW = new Date('2026-11-21T12:00:00.000Z')
const NEVER = new AbortController().signal

const BINDING = {
  id: 7,
  kind: 'backchannel',
  endpoint: 'main',
  issuer: 'main',
  iss: 'https://idp.example',
  clientId: 'mail',
  uri: 'https://mail.example/logout',
  settings: {
    ...{ subject_claims: 'both', session_required: false, algorithm: 'ES256', encryption: null },
    ...{ token_type: 'logout+jwt', already_ended_errors: [] },
  },
  names: 'either',
  widens: true,
  sealedSecret: null,
  timeoutMs: 10_000,
  concurrency: 16,
  retry: { ...DEFAULT_RETRY_POLICY, jitter: 0 },
  allowedNetworks: [],
  counts: 'done',
  fallbackFor: null,
  disabledReason: null,
} as unknown as Binding
const FRESH = {
  state: 'in_flight',
  id: '01938c2e-0000-8000-8000-0000000000d1',
  bindingId: 7,
  eventId: '01938c2e-0000-8000-8000-000000000001',
  sid: 's1',
  sessionEndsAt: null,
  event: {
    ...{ iss: 'https://idp.example', givenId: '01938c2e-0000-7000-8000-000000000001' },
    ...{ sub: 'u1', scope: 'session', lane: 'interactive', acceptedAt: NOW },
  },
  attempts: 0,
  retries: 0,
  refusals: 0,
} as unknown as InFlightDelivery

/** The `jti` of the n-th token: the prefix of the delivery, and the random part. */
const jtiOf = (n: number) => `01938c2e-0000-8000-8000-00000000000${n}`
const tokenOf = (n: number) => `token of ${jtiOf(n)}`

const response = (status: number, retryAfter: string | null = null): Answer => ({
  kind: 'response',
  status,
  retryAfter,
  body: '',
})
const RESET: Answer = { kind: 'failure', failure: 'connection_reset', detail: 'reset' }

interface RigOptions {
  readonly binding?: () => Binding | undefined
  readonly catchUp?: () => Promise<void>
  readonly sign?: (by: object, typ: string, claims: object) => Promise<string>
  readonly tls?: AttemptDeps['tls']
  readonly post?: AttemptDeps['client']['post']
  readonly open?: AttemptDeps['messages']['open']
}

/** An attempt whose RP gives the answers in order and then repeats the last one. */
function rig(answers: readonly Answer[], over: RigOptions = {}) {
  const posted: { readonly token: string; readonly atMs: number }[] = []
  const signed: LogoutTokenClaims[] = []
  let jtis = 0
  const {
    binding = () => BINDING,
    catchUp = async () => undefined,
    tls = async () => null,
    open = async (sealed) => sealed,
    sign = async (_by: object, _typ: string, claims: object) => {
      const logout = claims as LogoutTokenClaims
      signed.push(logout)
      return `token of ${logout.jti}`
    },
    post = async ({ body }: { readonly body: unknown }) => {
      const token = String(body).replace('logout_token=', '')
      const answer = answers[Math.min(posted.length, answers.length - 1)]
      posted.push({ token, atMs: Date.now() - NOW.getTime() })
      if (answer === undefined) throw new Error('the test has no answer for this POST')
      return answer
    },
  } = over
  const attempt = createAttempt({
    registry: { current: () => ({ bindings: { get: binding } }) as unknown as Registry, catchUp },
    keyring: {
      async signer(issuer, algorithm) {
        return { kid: 'k', algorithm, sign: (typ, claims) => sign({ issuer, algorithm }, typ ?? '', claims) }
      },
    },
    encrypter: { encrypt: async (_typ, token) => token, refused: () => undefined },
    tls,
    clientKeys: { open: async (sealed) => sealed },
    messages: { open },
    ledger: { findSessionTokens: async () => [] },
    sessionTokens: { open: async () => [] },
    log: createLog({ service: 'test', level: 'silent' }),
    client: { post, send: post as never },
    now: () => new Date(),
    random: () => 0.5,
    newId: () => `00000000-0000-4000-8000-00000000000${++jtis}`,
  })
  /** Runs an attempt to its end, as fast as the clock can be driven. */
  async function run(delivery: InFlightDelivery = FRESH, stopping: AbortSignal = NEVER) {
    const ended = attempt(delivery, stopping)
    ended.catch(() => undefined)
    await vi.runAllTimersAsync()
    return ended
  }
  return { attempt, run, posted, signed }
}

beforeEach(() => {
  vi.useFakeTimers({ now: NOW })
})
afterEach(() => {
  vi.useRealTimers()
})

describe('an error of our own tools', () => {
  test('is stored short, and without characters that PostgreSQL cannot store', async () => {
    const words = `answered "\0\ud800${'x'.repeat(5_000)}"`
    const { run } = rig([], { sign: () => Promise.reject(new Error(words)) })
    const [attempt] = (await run()).attempts
    const description = attempt?.outcome.kind === 'unavailable' ? attempt.outcome.errorDescription : null
    expect(description).toMatch(/^answered " ?\ufffdx+$/)
    expect(description?.length).toBeLessThanOrEqual(500)
  })
})

describe('one answer', () => {
  test('BCL-14: a 204 is recorded and acknowledges', async () => {
    const { run, posted } = rig([response(204)])
    const round = await run()
    expect(round).toMatchObject({
      id: FRESH.id,
      settlement: { state: 'acknowledged', level: 'done' },
      attempts: [
        { number: 1, startedAt: NOW, jti: jtiOf(1), outcome: { kind: 'acknowledged', status: 204 } },
      ],
    })
    expect(posted).toHaveLength(1)
  })

  test("BCL-04, BCL-05, BCL-10: the token is signed for the issuer with the RP's algorithm and addressed to the RP", async () => {
    const sign = vi.fn<NonNullable<RigOptions['sign']>>(async () => 'token')
    await rig([response(200)], { sign }).run()
    expect(sign).toHaveBeenCalledExactlyOnceWith(
      expect.objectContaining({ issuer: 'main', algorithm: 'ES256' }),
      'logout+jwt',
      expect.objectContaining({ iss: 'https://idp.example', aud: 'mail', txn: FRESH.event.givenId }),
    )
  })

  test.each([
    ['400', response(400), 30],
    ['429', response(429), 5],
    ['503 with Retry-After', response(503, '60'), 60],
    ['302', response(302), 30],
  ])('%s is not retried quickly, and the delivery waits in the ledger', async (_, answer, seconds) => {
    const { run, posted } = rig([answer])
    expect((await run()).settlement).toMatchObject({
      state: 'pending',
      dueAt: new Date(NOW.getTime() + seconds * 1_000),
    })
    expect(posted).toHaveLength(1)
  })
})

describe('quick retries', () => {
  test.each([
    ['a transport failure', RESET],
    ['a 5xx', response(503)],
  ])('BCL-15: %s on a first attempt gets two more tries, after about 250 ms and 1 s', async (_, answer) => {
    const { run, posted } = rig([answer])
    const round = await run()
    const [first = Number.NaN, second = Number.NaN, third = Number.NaN] = posted.map(({ atMs }) => atMs)
    expect(posted).toHaveLength(3)
    expect(first).toBe(0)
    expect(second - first).toBeGreaterThanOrEqual(250)
    expect(second - first).toBeLessThanOrEqual(500)
    expect(third - second).toBeGreaterThanOrEqual(1_000)
    expect(third - second).toBeLessThanOrEqual(2_000)
    expect(round.attempts.map(({ number }) => number)).toEqual([1, 2, 3])
    // The three tries count as one step of the schedule, which starts with the last of them.
    expect(round.settlement).toEqual({
      state: 'pending',
      dueAt: new Date(NOW.getTime() + third + 5_000),
      retries: 1,
      refusals: 0,
    })
  })

  test('a message that names the subject is not retried quickly after a slow failure, because a later session may have begun', async () => {
    const slow = async () => {
      await new Promise((resolve) => setTimeout(resolve, 3_000))
      return RESET
    }
    const post = vi.fn(slow)
    await rig([], { post }).run({ ...FRESH, sid: null })
    expect(post).toHaveBeenCalledTimes(1)
    await rig([], { post }).run(FRESH)
    expect(post).toHaveBeenCalledTimes(4)
  })

  test('BCL-13, BCL-08: every POST has its own token, minted just before it is sent', async () => {
    const { run, posted, signed } = rig([RESET])
    const round = await run()
    expect(posted.map(({ token }) => token)).toEqual([tokenOf(1), tokenOf(2), tokenOf(3)])
    expect(round.attempts.map(({ jti }) => jti)).toEqual([jtiOf(1), jtiOf(2), jtiOf(3)])
    expect(signed.map(({ iat }) => iat)).toEqual(
      posted.map(({ atMs }) => Math.floor((NOW.getTime() + atMs) / 1_000)),
    )
    expect(new Set(signed.map(({ txn }) => txn)).size).toBe(1)
  })

  test('end with the first answer that must not be retried quickly', async () => {
    const acknowledged = await rig([RESET, response(200)]).run()
    expect(acknowledged.settlement.state).toBe('acknowledged')
    expect(acknowledged.attempts.map(({ outcome }) => outcome.kind)).toEqual(['unavailable', 'acknowledged'])
    const refused = await rig([response(500), response(400)]).run()
    expect(refused.settlement).toMatchObject({ state: 'pending', refusals: 1, retries: 0 })
    expect(refused.attempts).toHaveLength(2)
  })

  test('follow only a first attempt; later attempts continue the numbers and the schedule', async () => {
    const { run, posted } = rig([RESET])
    const round = await run({ ...FRESH, attempts: 3, retries: 1 })
    expect(posted).toHaveLength(1)
    expect(round.attempts.map(({ number }) => number)).toEqual([4])
    expect(round.settlement).toMatchObject({ retries: 2, dueAt: new Date(NOW.getTime() + 30_000) })
  })

  test('are not made to an RP with a rate limit, because it counts every POST', async () => {
    const { run, posted } = rig([RESET], { binding: () => ({ ...BINDING, ratePerSecond: 2 }) })
    expect(await run()).toMatchObject({
      attempts: [{ number: 1 }],
      settlement: { state: 'pending', retries: 1 },
    })
    expect(posted).toHaveLength(1)
  })

  test('an exception in our own code does not cause another POST', async () => {
    const post = vi.fn<AttemptDeps['client']['post']>()
    post.mockResolvedValueOnce(RESET).mockRejectedValue(new Error('a bug'))
    await expect(rig([], { post }).run()).rejects.toThrow('a bug')
    expect(post).toHaveBeenCalledTimes(2)
  })
})

describe('an attempt that is stopped', () => {
  test('ends at once between two quick retries, and settles the tries made', async () => {
    const letGo = new AbortController()
    const { attempt, posted } = rig([RESET])
    const ended = attempt(FRESH, letGo.signal)
    await vi.advanceTimersByTimeAsync(10)
    letGo.abort()
    const round = await ended
    expect(posted).toHaveLength(1)
    expect(round).toMatchObject({ attempts: [{ number: 1 }], settlement: { state: 'pending', retries: 1 } })
  })

  test('counts an answer that arrives during a quick retry', async () => {
    const letGo = new AbortController()
    const post = vi.fn<AttemptDeps['client']['post']>()
    post.mockResolvedValueOnce(RESET).mockImplementationOnce(async () => {
      letGo.abort()
      return response(200)
    })
    const round = await rig([], { post }).run(FRESH, letGo.signal)
    expect(round.settlement).toEqual({ state: 'acknowledged', level: 'done' })
    expect(round.attempts).toHaveLength(2)
  })
})

describe('a session that has already ended', () => {
  test('gets no token, no POST and no attempt', async () => {
    const { run, posted, signed } = rig([response(200)])
    expect(await run({ ...FRESH, sessionEndsAt: NOW })).toMatchObject({
      settlement: { state: 'lapsed' },
      attempts: [],
    })
    expect([posted, signed]).toEqual([[], []])
  })

  test('lets the delivery lapse when it ends during the schedule', async () => {
    const { run } = rig([response(400)])
    const sessionEndsAt = new Date(NOW.getTime() + 20_000)
    expect(await run({ ...FRESH, sessionEndsAt })).toMatchObject({
      settlement: { state: 'lapsed' },
      attempts: [{ number: 1 }],
    })
  })
})

test('a failed attempt is not retried quickly once the service stops', async () => {
  const { run, posted } = rig([RESET])
  const round = await run(FRESH, AbortSignal.abort())
  expect(posted).toHaveLength(1)
  expect(round.settlement).toMatchObject({ state: 'pending', retries: 1 })
})

describe('a message that cannot be sent', () => {
  test('is a dead letter if the signing key cannot be opened, and nothing is POSTed', async () => {
    const { run, posted } = rig([response(200)], {
      sign: async () => {
        throw new SigningKeyError('no ES256 key of main opens with this master key')
      },
    })
    const round = await run()
    expect(posted).toEqual([])
    expect(round).toMatchObject({
      settlement: { state: 'dead_lettered', reason: 'no_signing_key' },
      attempts: [{ jti: null, outcome: { detail: 'no ES256 key of main opens with this master key' } }],
    })
  })

  test('is a dead letter if the client key cannot be opened, and nothing is POSTed without the key', async () => {
    const { run, posted } = rig([response(200)], {
      tls: async () => {
        throw new ClientKeyError('the client key for mail at main cannot be opened')
      },
    })
    const round = await run()
    expect(posted).toEqual([])
    expect(round).toMatchObject({
      settlement: { state: 'dead_lettered', reason: 'client_key_unreadable' },
      attempts: [{ jti: null, outcome: { detail: 'the client key for mail at main cannot be opened' } }],
    })
  })

  test('is retried if the key store is unavailable, as if the RP were unavailable', async () => {
    const sign = vi.fn<NonNullable<RigOptions['sign']>>()
    sign.mockRejectedValueOnce(new Error('connection terminated')).mockResolvedValue('token')
    const round = await rig([response(200)], { sign }).run()
    expect(round.settlement.state).toBe('acknowledged')
    expect(round.attempts.map(({ outcome }) => outcome)).toMatchObject([
      { kind: 'unavailable', failure: 'signer' },
      { kind: 'acknowledged' },
    ])
  })

  test.each<[string, Binding | undefined, string]>([
    ['removed', undefined, 'client_removed'],
    ['disabled', { ...BINDING, disabledReason: 'answered 410' }, 'binding_disabled'],
  ])('is a dead letter without a token if the binding was %s', async (_, binding, reason) => {
    const { run, posted, signed } = rig([response(200)], { binding: () => binding })
    expect((await run()).settlement).toEqual({ state: 'dead_lettered', reason })
    expect([posted, signed]).toEqual([[], []])
  })

  test('BCL-11: is a dead letter without a token if the RP requires a sid and there is none', async () => {
    const { run, posted } = rig([response(200)], { binding: () => ({ ...BINDING, names: 'session' }) })
    const round = await run({ ...FRESH, sid: null })
    expect(round.settlement).toEqual({ state: 'dead_lettered', reason: 'sid_required' })
    expect(posted).toEqual([])
  })

  test.each<[string, Binding | undefined]>([
    ['is missing from', undefined],
    ['is disabled in', { ...BINDING, disabledReason: 'gone' }],
  ])('is sent if the binding %s only this worker’s copy of the registry', async (_, known) => {
    let binding = known
    const { run, posted } = rig([response(200)], {
      binding: () => binding,
      catchUp: async () => {
        binding = BINDING
      },
    })
    expect(await run()).toMatchObject({ settlement: { state: 'acknowledged' } })
    expect(posted).toHaveLength(1)
  })

  test.each<[string, Answer]>([
    ['answers 410', response(410)],
    ['has a forbidden address', { kind: 'not_allowed', detail: 'private' }],
  ])('is a dead letter if the endpoint %s, unless the RP has registered another', async (_, last) => {
    const moved = { ...BINDING, uri: 'https://moved.example/logout' }
    let binding = BINDING
    const asked: string[] = []
    const { run } = rig([], {
      binding: () => binding,
      catchUp: async () => {
        binding = moved
      },
      post: async ({ uri }) => {
        asked.push(uri)
        return uri === moved.uri ? response(200) : last
      },
    })
    expect(await run()).toMatchObject({ settlement: { state: 'acknowledged' }, uri: moved.uri })
    expect(asked).toEqual([BINDING.uri, moved.uri])
    // The endpoint was registered again without a change: it is not asked twice.
    binding = moved
    const same = rig([last], { binding: () => structuredClone(moved) })
    expect(await same.run()).toMatchObject({ settlement: { state: 'dead_lettered' }, uri: moved.uri })
    expect(same.posted).toHaveLength(1)
  })

  test('waits in the ledger while the registry cannot be read', async () => {
    const round = await rig([], {
      binding: () => undefined,
      catchUp: () => Promise.reject(new Error('unavailable')),
    }).run()
    expect(round).toMatchObject({
      settlement: { state: 'pending' },
      outcome: { errorDescription: 'unavailable' },
    })
  })

  test('is acknowledged if the RP acknowledges while its binding is removed', async () => {
    let binding: Binding | undefined = BINDING
    const round = await rig([], {
      binding: () => binding,
      post: async () => {
        binding = undefined
        return response(200)
      },
    }).run()
    expect(round.settlement).toEqual({ state: 'acknowledged', level: 'done' })
  })

  test('is a dead letter if its binding is removed between two quick retries', async () => {
    let binding: Binding | undefined = BINDING
    const round = await rig([], {
      binding: () => binding,
      post: async () => {
        binding = undefined
        return RESET
      },
    }).run()
    expect(round.settlement).toEqual({ state: 'dead_lettered', reason: 'client_removed' })
  })
})

describe('the token of the IdP', () => {
  const TOKEN = `header.${Buffer.from(JSON.stringify({ jti: 'idp', iat: NOW.getTime() / 1_000 })).toString('base64url')}.signature`
  const RELAYED = { ...FRESH, firstMessage: TOKEN }

  test('ING-03: is sent in the first attempt only; a quick retry has a new token', async () => {
    const { run, posted } = rig([RESET, response(200)])
    const round = await run(RELAYED)
    expect(posted.map(({ token }) => token)).toEqual([TOKEN, tokenOf(1)])
    expect(round.attempts.map(({ jti }) => jti)).toEqual(['idp', jtiOf(1)])
    expect(round.settlement).toEqual({ state: 'acknowledged', level: 'done' })
  })

  test('is not sent in a later attempt', async () => {
    const { run, posted } = rig([response(200)])
    await run({ ...RELAYED, attempts: 1 })
    expect(posted.map(({ token }) => token)).toEqual([tokenOf(1)])
  })

  test('is replaced by a new token if it cannot be opened', async () => {
    const { run, posted } = rig([response(200)], { open: () => Promise.reject(new Error('another key')) })
    expect(await run(RELAYED)).toMatchObject({ settlement: { state: 'acknowledged' } })
    expect(posted.map(({ token }) => token)).toEqual([tokenOf(1)])
  })
})
