import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  ACKNOWLEDGED,
  claim,
  deliveriesTo,
  IDLE_MS,
  id,
  issuerOf,
  rig,
  UNAVAILABLE,
  until,
} from './dispatcher.fixture.ts'

// Goal: a binding's breaker, rate, share and lanes are kept, and keep nobody else waiting. Method: as in dispatcher.test.ts.

beforeEach(() => {
  vi.useFakeTimers({ now: 0 })
})
afterEach(() => {
  vi.useRealTimers()
})

describe('a binding that is down', () => {
  /** A rig whose binding 1 is down until it is told otherwise. */
  function downAtFirst() {
    let down = true
    const state = rig({
      attemptMs: (binding) => (binding === 9 ? null : 2),
      outcomeOf: (binding) => (binding === 1 && down ? UNAVAILABLE : ACKNOWLEDGED),
    })
    const back = () => {
      down = false
    }
    return { ...state, back }
  }

  test('has what waits for it given back after a few failures, and is hardly tried after that', async () => {
    const { accept, attemptedOf, ledger, dispatcher, holdings } = downAtFirst()
    accept(deliveriesTo(1, 100))
    await vi.advanceTimersByTimeAsync(2)
    expect(attemptedOf(1)).toHaveLength(16 + 4)
    expect(ledger.released.flatMap(({ ids }) => ids)).toHaveLength(100 - 20)
    expect([holdings.open, dispatcher.room(id(1), 'interactive', issuerOf(1))]).toEqual([1, 0])
    expect([1, 2].map((binding) => holdings.isUnavailable(id(binding)))).toEqual([true, false])
  })

  test('costs the others nothing, however much waits for it in the ledger', async () => {
    const { accept, ledger, attemptedOf, dispatcher } = downAtFirst()
    accept(deliveriesTo(1, 20))
    await vi.advanceTimersByTimeAsync(10)
    ledger.due.push(...deliveriesTo(1, 10_000), ...deliveriesTo(2, 500))
    claim(dispatcher)
    await until(() => attemptedOf(2).length === 500)
    expect(attemptedOf(1).length).toBeLessThanOrEqual(21)
    expect(dispatcher.room(id(2), 'interactive', issuerOf(2))).toBeGreaterThan(0)
  })

  test('is probed one at a time, further and further apart, and all that waits goes out once it answers', async () => {
    const { accept, ledger, attempted, attemptedOf, dispatcher, holdings, back } = downAtFirst()
    accept(deliveriesTo(1, 20))
    await vi.advanceTimersByTimeAsync(10)
    ledger.due.push(...deliveriesTo(1, 300))
    claim(dispatcher)
    const before = attempted.length
    await vi.advanceTimersByTimeAsync(60_000)
    const probes = attempted.length - before
    // After 1, 2, 4, 8, 16 and 32 seconds.
    expect(probes).toBeGreaterThanOrEqual(4)
    expect(probes).toBeLessThanOrEqual(7)
    expect(ledger.recovered).toEqual([])
    // Said again with each probe in vain.
    expect(new Set(ledger.breakers.map(([, state]) => state))).toEqual(new Set(['opened']))
    back()
    await until(() => attemptedOf(1).length === 320)
    expect([ledger.due.length, holdings.open, holdings.isUnavailable(id(1))]).toEqual([0, 0, false])
    expect(ledger.recovered).toEqual([id(1)])
    expect(ledger.breakers.at(-1)).toEqual([id(1), 'closed'])
  })

  test('and then for too long: what waits for it is given up on', async () => {
    const { accept, ledger, dispatcher } = downAtFirst()
    accept([...deliveriesTo(1, 20), ...deliveriesTo(9, 1)])
    claim(dispatcher)
    await vi.advanceTimersByTimeAsync(61_000)
    expect(new Set(ledger.givenUp)).toEqual(new Set([id(1)]))
  })
})

describe('a rate', () => {
  test('is kept over time, and does not fill memory with what must wait', async () => {
    const { ledger, attempted, dispatcher, holdings } = rig({ attemptMs: () => 1, perSecondOf: () => 10 })
    ledger.due.push(...deliveriesTo(1, 1_000))
    claim(dispatcher)
    await vi.advanceTimersByTimeAsync(10_000)
    expect(attempted.length).toBeGreaterThanOrEqual(90)
    expect(attempted.length).toBeLessThanOrEqual(104)
    expect(holdings.shares.held).toBeLessThanOrEqual(50)
  })
})

describe('a share of nothing', () => {
  test('leaves a binding to the other workers', async () => {
    const { ledger, attempted, dispatcher } = rig({ concurrencyOf: () => 0, barred: () => [id(1)] })
    ledger.due.push(...deliveriesTo(1, 5))
    claim(dispatcher)
    await vi.advanceTimersByTimeAsync(10 * IDLE_MS)
    expect([attempted.length, ledger.due.length]).toEqual([0, 5])
    expect(dispatcher.room(id(1), 'interactive', issuerOf(1))).toBe(0)
  })
})

describe('the bulk lane', () => {
  test('comes after the interactive one, and always leaves it slots', async () => {
    const { accept, attempted, finish } = rig({ concurrencyOf: () => 4 })
    accept(deliveriesTo(1, 10, 'bulk'))
    expect(attempted).toHaveLength(2)
    accept(deliveriesTo(1, 3))
    expect(attempted.map(({ event }) => event.lane)).toEqual(['bulk', 'bulk', 'interactive', 'interactive'])
    await finish(...attempted.slice(0, 1))
    expect(attempted.at(-1)?.event.lane).toBe('interactive')
  })

  test('has a backlog of its own, which sends nothing interactive to the ledger', async () => {
    const { ledger, dispatcher, attempted } = rig({ attemptMs: () => 50 })
    ledger.due.push(...deliveriesTo(1, 5_000, 'bulk'))
    claim(dispatcher)
    await until(() => attempted.length > 20)
    expect(dispatcher.room(id(1), 'bulk', issuerOf(1))).toBe(0)
    expect(dispatcher.room(id(1), 'interactive', issuerOf(1))).toBeGreaterThan(0)
  })

  test('is claimed no faster than its pace', async () => {
    let spent = 0
    const { ledger, dispatcher, attempted } = rig({
      attemptMs: () => 1,
      bulkPace: {
        available: () => Math.max(0, 100 - spent),
        spend: (_kind, deliveries) => {
          spent += deliveries
        },
      },
    })
    ledger.due.push(...deliveriesTo(1, 1_000, 'bulk'), ...deliveriesTo(2, 1_000))
    claim(dispatcher)
    await until(() => attempted.filter(({ bindingId }) => bindingId === 2).length === 1_000)
    await vi.advanceTimersByTimeAsync(10 * IDLE_MS)
    expect(spent).toBeGreaterThan(50)
    expect(spent).toBeLessThanOrEqual(100 + 16)
    expect(attempted.filter(({ event }) => event.lane === 'bulk')).toHaveLength(spent)
  })
})
