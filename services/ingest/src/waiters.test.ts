import { hash } from 'node:crypto'
import { type EventId, eventIdOf, eventKeyOf, type GivenEventId, type Issuer } from '@curfew/domain'
import type { SettledFollower } from '@curfew/ledger'
import { createLog } from '@curfew/runtime'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createWaiters } from './waiters.ts'
import { type Awaited, atAnyIssuer } from './waiting-list.ts'

// Goal: every waiter is woken, in every order of events, and the ledger is asked only for awaited events.
// Method: the test makes the announcements of the ledger, and gives its answers by hand.

const POLL_MS = 60_000
const [A, B] = ['a', 'b'].map((letter) => `${letter.repeat(8)}-0000-7000-8000-000000000000` as EventId) as [
  EventId,
  EventId,
]

interface Question {
  readonly ids: readonly Awaited[]
  /** Answers that these events are settled. */
  answer(...settled: readonly Awaited[]): Promise<void>
  fail(): Promise<void>
}

function rig() {
  const questions: Question[] = []
  let follower: SettledFollower | null = null
  const stopping = new AbortController()
  const waiters = createWaiters({
    settledEvents(ids) {
      const { promise, resolve, reject } = Promise.withResolvers<ReadonlySet<string>>()
      questions.push({
        ids,
        answer(...settled) {
          resolve(new Set(settled))
          return flush()
        },
        fail() {
          reject(new Error('unavailable'))
          return flush()
        },
      })
      return promise
    },
    async follow(given, until) {
      follower = given
      await new Promise((resolve) => until.addEventListener('abort', resolve))
    },
    log: createLog({ service: 'test', level: 'silent' }),
    pollMs: POLL_MS,
  })
  const { signal } = stopping
  const ended = waiters.service.run({ stopping: signal, abandoning: signal, ready: () => undefined })
  const currentFollower = (): SettledFollower => {
    if (follower === null) throw new Error('the waiters do not follow the ledger')
    return follower
  }
  return {
    waiters,
    questions,
    connected() {
      currentFollower().onConnected()
      return flush()
    },
    settled(...ids: readonly EventId[]) {
      currentFollower().onSettled(ids.map(eventKeyOf))
      return flush()
    },
    /** Waits for an event. @returns the state of the wait. */
    async wait(id: Awaited, ms = 1_000_000) {
      const { over, end } = waiters.wait(id, ms)
      const state = { over: false, end }
      void over.then(() => {
        state.over = true
      })
      await flush()
      return state
    },
    async stop() {
      stopping.abort()
      await ended
    },
  }
}

/** Runs all pending callbacks. */
async function flush(): Promise<void> {
  await vi.advanceTimersByTimeAsync(0)
}
const asked = ({ questions }: ReturnType<typeof rig>) => questions.map(({ ids }) => ids)

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('an event that was settled before the wait is found with one question', async () => {
  const own = rig()
  const waiter = await own.wait(A)
  await own.questions[0]?.answer(A)
  expect(waiter.over).toBe(true)
  await vi.advanceTimersByTimeAsync(POLL_MS * 3)
  expect(asked(own)).toEqual([[A]])
  await own.stop()
})

test('an event that settles during the first question is asked for again, and its waiter is woken', async () => {
  const own = rig()
  const waiter = await own.wait(A)
  // The ledger has run the query. Then the settlement is committed and announced. Only then the negative answer arrives.
  await own.settled(A)
  expect(asked(own)).toEqual([[A]])
  await own.questions[0]?.answer()
  expect(waiter.over).toBe(false)
  expect(asked(own)).toEqual([[A], [A]])
  await own.questions[1]?.answer(A)
  expect(waiter.over).toBe(true)
  await own.stop()
})

test('only awaited and announced events are asked for, and the waiters of unsettled events wait on', async () => {
  const own = rig()
  const [a, alsoA] = [await own.wait(A), await own.wait(A)]
  const b = await own.wait(B)
  for (let n = 0; n < own.questions.length; n++) await own.questions[n]?.answer()
  const before = own.questions.length
  await own.settled('cccccccc-0000-7000-8000-000000000000' as EventId)
  expect(own.questions).toHaveLength(before)
  await own.settled(A)
  await own.questions[before]?.answer()
  await own.settled(A)
  await own.questions[before + 1]?.answer(A)
  expect(asked(own).slice(before)).toEqual([[A], [A]])
  expect([a.over, alsoA.over, b.over]).toEqual([true, true, false])
  expect(own.waiters.count).toBe(1)
  await own.stop()
})

test('an id at any issuer is asked for when an event that may have this id settles', async () => {
  const own = rig()
  const given = '01938c2e-0000-7000-8000-000000000001' as GivenEventId
  const awaited = atAnyIssuer(given)
  const waiter = await own.wait(awaited)
  await own.questions[0]?.answer()
  await own.settled(A)
  expect(asked(own)).toEqual([[awaited]])
  await own.settled(eventIdOf('https://idp.example' as Issuer, given, (text) => hash('sha256', text)))
  expect(asked(own)).toEqual([[awaited], [awaited]])
  await own.questions[1]?.answer(awaited)
  expect(waiter.over).toBe(true)
  await own.stop()
})

test('all awaited events are asked for after each connect, and at each poll', async () => {
  const own = rig()
  const [a, b] = [await own.wait(A), await own.wait(B)]
  await own.questions[0]?.answer()
  await own.questions[1]?.answer()
  await own.connected()
  expect(asked(own)).toEqual([[A], [B], [A, B]])
  await own.questions[2]?.answer(B)
  await vi.advanceTimersByTimeAsync(POLL_MS)
  await own.questions[3]?.answer(A)
  expect([a.over, b.over]).toEqual([true, true])
  expect(asked(own)).toEqual([[A], [B], [A, B], [A]])
  await own.stop()
})

test('a failed question is asked again within a second', async () => {
  const own = rig()
  const waiter = await own.wait(A)
  await own.questions[0]?.fail()
  await vi.advanceTimersByTimeAsync(1_000)
  await own.questions[1]?.answer(A)
  expect(waiter.over).toBe(true)
  await own.stop()
})

test('an ended wait and a timed-out wait are forgotten, and their events are not asked for', async () => {
  const own = rig()
  const leaving = await own.wait(A)
  const hasty = await own.wait(B, 1_000)
  await own.questions[0]?.answer()
  await own.questions[1]?.answer()
  expect(own.waiters.count).toBe(2)
  leaving.end()
  await vi.advanceTimersByTimeAsync(1_000)
  expect([leaving.over, hasty.over, own.waiters.count]).toEqual([true, true, 0])
  await own.settled(A, B)
  await own.connected()
  await vi.advanceTimersByTimeAsync(POLL_MS)
  expect(own.questions).toHaveLength(2)
  leaving.end()
  await own.stop()
})

test('a stop ends all waits, and waits that begin after it', async () => {
  const own = rig()
  const waiter = await own.wait(A)
  const stopped = own.stop()
  await own.questions[0]?.answer()
  await stopped
  await flush()
  expect(waiter.over).toBe(true)
  expect((await own.wait(B)).over).toBe(true)
})
