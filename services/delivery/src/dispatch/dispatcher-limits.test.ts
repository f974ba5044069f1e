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

// Goal: the breaker, rate, share and lanes of a binding hold, and delay no other binding. Method: as in dispatcher.test.ts.

beforeEach(() => {
  vi.useFakeTimers({ now: 0 })
})
afterEach(() => {
  vi.useRealTimers()
})

describe('an unavailable binding', () => {
  /** A rig whose binding 1 is unavailable until `recover` is called. */
  function unavailableAtFirst() {
    let unavailable = true
    const state = rig({
      attemptMs: (binding) => (binding === 9 ? null : 2),
      outcomeOf: (binding) => (binding === 1 && unavailable ? UNAVAILABLE : ACKNOWLEDGED),
    })
    const recover = () => {
      unavailable = false
    }
    return { ...state, recover }
  }

  test('gives its waiting deliveries back after a few failures, and gets few attempts after that', async () => {
    const { accept, attemptedOf, ledger, dispatcher, holdings } = unavailableAtFirst()
    accept(deliveriesTo(1, 100))
    await vi.advanceTimersByTimeAsync(2)
    expect(attemptedOf(1)).toHaveLength(16 + 4)
    expect(ledger.released.flatMap(({ ids }) => ids)).toHaveLength(100 - 20)
    expect([holdings.open, dispatcher.room(id(1), 'interactive', issuerOf(1))]).toEqual([1, 0])
    expect([1, 2].map((binding) => holdings.isUnavailable(id(binding)))).toEqual([true, false])
  })

  test('does not delay others, however many deliveries wait for it in the ledger', async () => {
    const { accept, ledger, attemptedOf, dispatcher } = unavailableAtFirst()
    accept(deliveriesTo(1, 20))
    await vi.advanceTimersByTimeAsync(10)
    ledger.due.push(...deliveriesTo(1, 10_000), ...deliveriesTo(2, 500))
    claim(dispatcher)
    await until(() => attemptedOf(2).length === 500)
    expect(attemptedOf(1).length).toBeLessThanOrEqual(21)
    expect(dispatcher.room(id(2), 'interactive', issuerOf(2))).toBeGreaterThan(0)
  })

  test('gets single probes at growing intervals, and all waiting deliveries once it answers', async () => {
    const { accept, ledger, attempted, attemptedOf, dispatcher, holdings, recover } = unavailableAtFirst()
    accept(deliveriesTo(1, 20))
    await vi.advanceTimersByTimeAsync(10)
    ledger.due.push(...deliveriesTo(1, 300))
    claim(dispatcher)
    const before = attempted.length
    await vi.advanceTimersByTimeAsync(60_000)
    const probes = attempted.length - before
    // The probes come after 1, 2, 4, 8, 16 and 32 seconds.
    expect(probes).toBeGreaterThanOrEqual(4)
    expect(probes).toBeLessThanOrEqual(7)
    expect(ledger.recovered).toEqual([])
    // Every failed probe reports the open breaker again.
    expect(new Set(ledger.breakers.map(([, state]) => state))).toEqual(new Set(['opened']))
    recover()
    await until(() => attemptedOf(1).length === 320)
    expect([ledger.due.length, holdings.open, holdings.isUnavailable(id(1))]).toEqual([0, 0, false])
    expect(ledger.recovered).toEqual([id(1)])
    expect(ledger.breakers.at(-1)).toEqual([id(1), 'closed'])
  })

  test('has its waiting deliveries given up after too long a time', async () => {
    const { accept, ledger, dispatcher } = unavailableAtFirst()
    accept([...deliveriesTo(1, 20), ...deliveriesTo(9, 1)])
    claim(dispatcher)
    await vi.advanceTimersByTimeAsync(61_000)
    expect(new Set(ledger.givenUp)).toEqual(new Set([id(1)]))
  })
})

describe('a rate', () => {
  test('is kept over time, and does not fill memory with waiting deliveries', async () => {
    const { ledger, attempted, dispatcher, holdings } = rig({ attemptMs: () => 1, perSecondOf: () => 10 })
    ledger.due.push(...deliveriesTo(1, 1_000))
    claim(dispatcher)
    await vi.advanceTimersByTimeAsync(10_000)
    expect(attempted.length).toBeGreaterThanOrEqual(90)
    expect(attempted.length).toBeLessThanOrEqual(104)
    expect(holdings.shares.held).toBeLessThanOrEqual(50)
  })
})

describe('a share of 0', () => {
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
  test('comes after the interactive lane, and always leaves it slots', async () => {
    const { accept, attempted, finish } = rig({ concurrencyOf: () => 4 })
    accept(deliveriesTo(1, 10, 'bulk'))
    expect(attempted).toHaveLength(2)
    accept(deliveriesTo(1, 3))
    expect(attempted.map(({ event }) => event.lane)).toEqual(['bulk', 'bulk', 'interactive', 'interactive'])
    await finish(...attempted.slice(0, 1))
    expect(attempted.at(-1)?.event.lane).toBe('interactive')
  })

  test('has its own backlog, which sends no interactive delivery to the ledger', async () => {
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
