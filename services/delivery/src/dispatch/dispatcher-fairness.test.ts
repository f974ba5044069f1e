import type { Issuer } from '@curfew/domain'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { claim, deliveriesTo, IDLE_MS, id, issuerOf, rig, until } from './dispatcher.fixture.ts'

// Goal: the work of one issuer, however much, delays no other issuer's logouts. Method: as in dispatcher.test.ts.

const BIG = 1
const SMALL = 1_001
const THIRD = 2_001
/** Consecutive bindings of the same issuer, from `first` on. */
const bindings = (first: number, count: number) => Array.from({ length: count }, (_, n) => first + n)
const oneEach = (first: number, count: number) =>
  bindings(first, count).flatMap((binding) => deliveriesTo(binding, 1))

beforeEach(() => {
  vi.useFakeTimers({ now: 0 })
})
afterEach(() => {
  vi.useRealTimers()
})

describe('simultaneous attempts', () => {
  test('begin a few at a time, so that other work runs in between', async () => {
    const { accept, attempted } = rig({ startsPerTurn: 4, heldMax: 10_000 })
    accept(oneEach(BIG, 500))
    expect(attempted).toHaveLength(4)
    await new Promise<void>((resolve) => {
      setImmediate(resolve)
      vi.advanceTimersToNextTimer()
    })
    expect(attempted).toHaveLength(8)
    await until(() => attempted.length === 500)
  })

  test('begin fewer at a time while several issuers have deliveries, and more again when one is alone', async () => {
    const { accept, attempted } = rig({ startsPerTurn: 100, heldMax: 10_000 })
    const begunIn = async (turn: () => void) => {
      const before = attempted.length
      turn()
      await new Promise<void>((resolve) => {
        setImmediate(resolve)
        vi.advanceTimersToNextTimer()
      })
      return attempted.length - before
    }
    accept(oneEach(BIG, 500))
    accept(deliveriesTo(SMALL, 1))
    expect(await begunIn(() => undefined)).toBe(16)
    vi.setSystemTime(3_000)
    expect(await begunIn(() => vi.advanceTimersByTime(3_000))).toBeGreaterThanOrEqual(100)
  })

  test('for one issuer give another issuer its turn at once', async () => {
    const { accept, attempted, attemptedOf } = rig({ startsPerTurn: 4, heldMax: 10_000 })
    accept(oneEach(BIG, 500))
    accept(deliveriesTo(SMALL, 3))
    await until(() => attemptedOf(SMALL).length === 3)
    // Four attempts were under way. After that the two issuers take turns.
    expect(attempted.length).toBeLessThanOrEqual(4 + 2 * 4)
    await until(() => attempted.length === 503)
  })
})

describe('attempts under way', () => {
  test('of an issuer with unresponsive relying parties leave slots for a second and a third issuer', () => {
    const { accept, attempted, attemptedOf, holdings } = rig({ attemptsMax: 40, heldMax: 10_000 })
    accept(oneEach(BIG, 500))
    expect([attempted.length, holdings.shares.running, holdings.shares.mostRunning]).toEqual([30, 30, 30])
    accept(oneEach(SMALL, 500))
    expect(attemptedOf(SMALL)).toHaveLength(1)
    expect(attempted).toHaveLength(38)
    accept(deliveriesTo(THIRD, 1))
    expect(attemptedOf(THIRD)).toHaveLength(1)
  })

  test('continue for an issuer as soon as one of its own has ended', async () => {
    const { accept, attempted, finish } = rig({ attemptsMax: 40, heldMax: 10_000 })
    accept(oneEach(BIG, 500))
    await finish(...attempted.slice(0, 5))
    expect(attempted).toHaveLength(35)
  })

  test('continue for an issuer once those of others have ended', async () => {
    const { accept, attempted, attemptedOf, finish, dispatcher, holdings } = rig({
      attemptsMax: 40,
      heldMax: 10_000,
    })
    accept(oneEach(SMALL, 500))
    accept(oneEach(BIG, 500))
    expect(attemptedOf(BIG)).toHaveLength(1)
    const before = attempted.length
    claim(dispatcher)
    holdings.clear()
    accept(oneEach(BIG + 500, 100))
    await finish(...attempted.filter(({ bindingId }) => bindingId >= SMALL))
    await vi.advanceTimersByTimeAsync(2 * IDLE_MS)
    expect(attempted.length).toBeGreaterThan(before + 10)
  })

  test('at unresponsive relying parties leave slots to the others of the same issuer', () => {
    const { accept, attemptedOf } = rig({ attemptsMax: 400, heldMax: 100_000 })
    accept(bindings(BIG, 50).flatMap((binding) => deliveriesTo(binding, 16)))
    accept(deliveriesTo(BIG + 50, 1))
    expect(attemptedOf(BIG + 50)).toHaveLength(1)
  })
})

describe('memory', () => {
  test('never fills with the deliveries of one issuer', () => {
    const { accept, dispatcher, holdings, fill } = rig({ heldMax: 400 })
    for (const binding of bindings(BIG, 500)) fill(binding)
    expect(holdings.shares.held).toBeLessThanOrEqual(300)
    expect(holdings.shares.roomOf(issuerOf(SMALL))).toBeGreaterThanOrEqual(75)
    expect(fill(SMALL)).toBeGreaterThan(0)
    accept(deliveriesTo(THIRD, 1))
    expect(dispatcher.room(id(THIRD), 'interactive', issuerOf(THIRD))).toBeGreaterThan(0)
  })

  test('that one issuer has filled does not delay the intake for another', async () => {
    const { accept, holdings } = rig({ attemptMs: () => 10, concurrencyOf: () => 1 })
    accept(deliveriesTo(BIG, 300))
    await vi.advanceTimersByTimeAsync(10)
    const startedMs = Date.now()
    await holdings.waitForRoom(50, new Set<Issuer>([issuerOf(SMALL)]))
    expect(Date.now()).toBe(startedMs)
    await Promise.all([holdings.waitForRoom(50, new Set([issuerOf(BIG)])), vi.advanceTimersByTimeAsync(50)])
    expect(Date.now()).toBe(startedMs + 50)
  })
})

describe('claims', () => {
  test('reach an issuer of few bindings soon, even when another has a backlog for thousands', async () => {
    const { ledger, dispatcher, attemptedOf } = rig({ attemptMs: () => 5, heldMax: 2_000 })
    for (const binding of bindings(BIG, 990)) ledger.due.push(...deliveriesTo(binding, 20))
    ledger.due.push(...deliveriesTo(SMALL, 1), ...deliveriesTo(THIRD, 1))
    claim(dispatcher)
    await until(() => attemptedOf(SMALL).length === 1 && attemptedOf(THIRD).length === 1)
    expect(ledger.claims.length).toBeLessThanOrEqual(4)
  })

  test('serve an issuer of one binding as fast as its RP answers, beside a backlog for hundreds of another', async () => {
    const { ledger, dispatcher, attempted, attemptedOf } = rig({
      attemptMs: (binding) => (binding < SMALL ? 50 : 5),
      heldMax: 800,
    })
    for (const binding of bindings(BIG, 200)) ledger.due.push(...deliveriesTo(binding, 40))
    claim(dispatcher)
    await until(() => attempted.length > 1_000)
    ledger.due.push(...deliveriesTo(SMALL, 600))
    const startedMs = Date.now()
    await until(() => attemptedOf(SMALL).length === 600)
    // 16 at a time for 5 ms each takes 188 ms.
    expect(Date.now() - startedMs).toBeLessThan(300)
  })
})
