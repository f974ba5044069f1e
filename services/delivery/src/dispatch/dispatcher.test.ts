import type { InFlightDelivery, WorkerId } from '@curfew/domain'
import type { DeliveryLedger } from '@curfew/ledger'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { claim, deliveriesTo, HOUR, IDLE_MS, id, issuerOf, rig, until, W1 } from './dispatcher.fixture.ts'
import type { DispatcherDeps } from './dispatcher.ts'

// Goal: no delivery waits for another's RP, no delivery is forgotten, and memory is bounded.
// Method: a ledger in memory that claims like the real one, attempts of a given duration, and a clock that the test drives.

beforeEach(() => {
  vi.useFakeTimers({ now: 0 })
})
afterEach(() => {
  vi.useRealTimers()
})

describe('concurrency', () => {
  test('no binding exceeds its limit, and all its deliveries are attempted once, in order', async () => {
    const limits = new Map([
      [1, 3],
      [2, 1],
    ])
    const { accept, attemptedOf, most, finishAll, holdings } = rig({
      concurrencyOf: (bindingId) => limits.get(bindingId) ?? 16,
    })
    const [to1, to2] = [deliveriesTo(1, 50), deliveriesTo(2, 20)]
    accept(to1.flatMap((delivery, index) => [delivery, ...to2.slice(index, index + 1)]))
    await finishAll()
    expect(most).toEqual(limits)
    expect(attemptedOf(1)).toEqual(to1)
    expect(attemptedOf(2)).toEqual(to2)
    expect(holdings.shares.held).toBe(0)
  })

  test('a changed limit applies from the next attempt on', async () => {
    let limit = 4
    const { accept, attempted, finish } = rig({ concurrencyOf: () => limit })
    accept(deliveriesTo(1, 20))
    limit = 2
    await finish(...attempted.slice(0, 2))
    expect(attempted).toHaveLength(4)
    limit = 6
    await finish(...attempted.slice(2, 3))
    expect(attempted).toHaveLength(9)
  })

  test('an attempt that throws frees its slot', async () => {
    const attempt = vi.fn<DispatcherDeps['attempt']>().mockRejectedValue(new Error('a bug'))
    const { accept, holdings } = rig({ attempt, concurrencyOf: () => 1 })
    accept(deliveriesTo(1, 3))
    await holdings.idle()
    expect(attempt).toHaveBeenCalledTimes(3)
  })
})

test('the next attempt starts while an outcome is written, and both deliveries are held until the ledger has them', async () => {
  const recorded = Promise.withResolvers<void>()
  const { accept, attempted, finishAll, holdings } = rig({
    settleRound: () => recorded.promise,
    concurrencyOf: () => 1,
  })
  const both = deliveriesTo(1, 2)
  accept(both)
  await finishAll()
  expect(attempted).toEqual(both)
  expect(holdings.ids()).toEqual(both.map((delivery) => delivery.id))
  recorded.resolve()
  await holdings.idle()
  expect(holdings.shares.held).toBe(0)
})

describe('BCL-18: an RP that hangs does not delay the others', () => {
  test('its waiting deliveries delay no other RP', async () => {
    const { accept, attemptedOf, holdings } = rig({ attemptMs: (binding) => (binding === 1 ? null : 5) })
    accept(deliveriesTo(1, 100))
    accept(deliveriesTo(2, 100))
    await vi.advanceTimersByTimeAsync(5 * Math.ceil(100 / 16))
    expect(attemptedOf(2)).toHaveLength(100)
    expect(holdings.shares.held).toBe(100)
  })

  test('a hundred of them, all with more deliveries than they take, leave room for the next RP', () => {
    const { fill, attemptedOf, holdings } = rig({ heldMax: 4_000 })
    for (let round = 0; round < 20; round++) for (let binding = 1; binding <= 100; binding++) fill(binding)
    expect(holdings.shares.held).toBeLessThan(4_000)
    const room = fill(101)
    expect(room).toBeGreaterThan(0)
    expect(attemptedOf(101)).toHaveLength(Math.min(room, 16))
  })

  test('a hundred of them with a backlog do not delay the claim of a delivery to another RP', async () => {
    const { ledger, attemptedOf, dispatcher, holdings } = rig({ concurrencyOf: () => 2 })
    for (let binding = 1; binding <= 100; binding++) ledger.due.push(...deliveriesTo(binding, 50))
    claim(dispatcher)
    await vi.advanceTimersByTimeAsync(20 * IDLE_MS)
    expect(holdings.shares.held).toBeLessThan(400)
    ledger.due.push(...deliveriesTo(101, 1))
    await vi.advanceTimersByTimeAsync(2 * IDLE_MS)
    expect(attemptedOf(101)).toHaveLength(1)
  })

  test('intake does not wait for its deliveries', async () => {
    const { fill, holdings } = rig()
    for (let binding = 1; binding <= 20; binding++) fill(binding)
    expect(holdings.shares.held).toBeGreaterThan(200)
    let waitedMs = Number.NaN
    void holdings.waitForRoom(50).then(() => {
      waitedMs = Date.now()
    })
    await vi.advanceTimersByTimeAsync(50)
    expect(waitedMs).toBe(0)
  })
})

test('no binding starves while others have long backlogs and fast RPs', async () => {
  const { dispatcher, ledger, attempted } = rig({ attemptMs: () => 20 })
  const bindings = Array.from({ length: 60 }, (_, index) => index + 1)
  for (const binding of bindings) ledger.due.push(...deliveriesTo(binding, 200))
  claim(dispatcher)
  await until(() => attempted.length >= 6_000)
  const shares = Map.groupBy(attempted, ({ bindingId }) => bindingId)
  expect(Math.min(...bindings.map((binding) => shares.get(id(binding))?.length ?? 0))).toBeGreaterThan(25)
  await until(() => ledger.due.length === 0)
})

describe('room', () => {
  test('shrinks as more deliveries wait, and never exceeds the free memory', () => {
    const { fill, holdings } = rig()
    const rooms = Array.from({ length: 30 }, (_, index) => fill(index + 1))
    expect(rooms.toSorted((a, b) => b - a)).toEqual(rooms)
    expect(rooms.at(0)).toBeLessThan(400 / 2)
    expect(holdings.shares.held).toBeLessThanOrEqual(400)
  })

  test('is at most 1,024 for a binding, however large the memory', () => {
    const { fill, holdings } = rig({ heldMax: 1e6 })
    fill(1)
    fill(1)
    expect(holdings.shares.held).toBeLessThanOrEqual(1_024 + 16)
  })

  test('stays 0 after an excess went to the ledger, until a claim returns fewer deliveries than it asked for', async () => {
    const { fill, dispatcher, ledger, finishAll } = rig()
    fill(1)
    expect(dispatcher.room(id(1), 'interactive', issuerOf(1))).toBe(0)
    ledger.due.push(...deliveriesTo(1, 10))
    await finishAll()
    // Everything in memory is done, but ten deliveries are in the ledger. New ones must not overtake them.
    expect(dispatcher.room(id(1), 'interactive', issuerOf(1))).toBe(0)
    expect(dispatcher.room(id(2), 'interactive', issuerOf(2))).toBeGreaterThan(0)
    claim(dispatcher)
    await vi.advanceTimersByTimeAsync(2 * IDLE_MS)
    expect(ledger.due).toEqual([])
    expect(dispatcher.room(id(1), 'interactive', issuerOf(1))).toBeGreaterThan(0)
  })

  test('is 0 after a claim that returned as many deliveries as it asked for', async () => {
    const { dispatcher, holdings, ledger } = rig()
    ledger.due.push(...deliveriesTo(1, 500))
    claim(dispatcher)
    await vi.advanceTimersByTimeAsync(IDLE_MS)
    expect(holdings.shares.held).toBeGreaterThan(0)
    expect(dispatcher.room(id(1), 'interactive', issuerOf(1))).toBe(0)
  })

  test('lets claims find deliveries that intake sent to the ledger, even if the queue in memory is never empty', async () => {
    const { dispatcher, holdings, ledger, accept, attemptedOf } = rig({
      attemptMs: () => 10,
      concurrencyOf: () => 4,
    })
    accept(deliveriesTo(1, 40))
    const behind = deliveriesTo(1, 5)
    ledger.due.push(...behind)
    claim(dispatcher)
    // New deliveries arrive as fast as the RP takes them. Without a claim, the five in the ledger would wait forever.
    for (let ms = 0; ms < 10 * IDLE_MS; ms += 10) {
      accept(
        deliveriesTo(
          1,
          Math.min(dispatcher.room(id(1), 'interactive', issuerOf(1)), 40 - holdings.shares.held),
        ),
      )
      await vi.advanceTimersByTimeAsync(10)
    }
    expect(behind.filter((delivery) => !attemptedOf(1).includes(delivery))).toEqual([])
  })

  test('is 0 while the leases cannot be trusted', () => {
    const { dispatcher, worker } = rig()
    worker.alive = false
    expect(dispatcher.room(id(1), 'interactive', issuerOf(1))).toBe(0)
    worker.alive = true
    expect(dispatcher.room(id(1), 'interactive', issuerOf(1))).toBeGreaterThan(0)
  })
})

describe('claiming', () => {
  test('delivers a backlog as fast as the RP takes it, not at the pace of the polls', async () => {
    const { dispatcher, ledger, attempted } = rig({ attemptMs: () => 2 })
    ledger.due.push(...deliveriesTo(1, 2_000))
    claim(dispatcher)
    await until(() => attempted.length === 2_000)
    // 16 at a time for 2 ms each takes 250 ms. The limit allows for the first poll and the round trips.
    expect(Date.now()).toBeLessThan(IDLE_MS + 500)
  })

  test('keeps memory bounded, however many deliveries are due', async () => {
    const { ledger, dispatcher, holdings } = rig()
    for (let binding = 1; binding <= 500; binding++) ledger.due.push(...deliveriesTo(binding, 20))
    claim(dispatcher)
    await vi.advanceTimersByTimeAsync(50 * IDLE_MS)
    expect(holdings.shares.held).toBeLessThanOrEqual(400)
  })

  test.each<[string, (state: ReturnType<typeof rig>) => void]>([
    [
      'the ledger is unavailable',
      ({ ledger }) => {
        ledger.unavailable = true
      },
    ],
    [
      'the leases are not trusted',
      ({ worker }) => {
        worker.alive = false
      },
    ],
    [
      'memory is full',
      ({ accept }) => {
        for (let binding = 50; binding < 450; binding++) accept(deliveriesTo(binding, 1))
      },
    ],
  ])('causes no busy loop while a backlog waits and %s, and continues afterwards', async (_, trouble) => {
    const state = rig()
    const { fill, ledger, worker, dispatcher, holdings, attemptedOf, finishAll } = state
    while (fill(1) > 0);
    await finishAll()
    const behind = deliveriesTo(1, 3)
    ledger.due.push(...behind)
    trouble(state)
    const asked = ledger.claims.length
    claim(dispatcher)
    await vi.advanceTimersByTimeAsync(20 * IDLE_MS)
    expect(ledger.claims.length - asked).toBeLessThanOrEqual(21)
    expect(attemptedOf(1)).not.toContain(behind[0])

    ledger.unavailable = false
    worker.alive = true
    await finishAll()
    await vi.advanceTimersByTimeAsync(2 * IDLE_MS)
    expect(attemptedOf(1)).toEqual(expect.arrayContaining(behind))
    await finishAll()
    expect(holdings.shares.held).toBe(0)
  })

  test('ends at once when the service stops, even during a pause', async () => {
    const { dispatcher } = rig()
    const { stop, ended } = claim(dispatcher)
    await vi.advanceTimersByTimeAsync(IDLE_MS / 2)
    const began = Date.now()
    stop.abort()
    await ended
    expect(Date.now()).toBe(began)
  })
})

describe('leases', () => {
  test('start no attempt while they cannot be trusted, and start the held deliveries once they can', async () => {
    const { dispatcher, accept, worker, attempted } = rig()
    worker.alive = false
    claim(dispatcher)
    accept(deliveriesTo(1, 3))
    await vi.advanceTimersByTimeAsync(5 * IDLE_MS)
    expect(attempted).toEqual([])
    worker.alive = true
    await vi.advanceTimersByTimeAsync(IDLE_MS)
    expect(attempted).toHaveLength(3)
  })

  test('are given back without an attempt when their deliveries were held for over a minute', async () => {
    const { accept, attempted, finish, ledger, dispatcher, holdings } = rig({ concurrencyOf: () => 1 })
    const [running, old1, old2, young] = deliveriesTo(1, 4) as [
      InFlightDelivery,
      InFlightDelivery,
      InFlightDelivery,
      InFlightDelivery,
    ]
    accept([running, old1, old2])
    await vi.advanceTimersByTimeAsync(60_000)
    accept([young])
    await vi.advanceTimersByTimeAsync(1)
    await finish(running)
    expect(attempted).toEqual([running, young])
    expect(ledger.released).toEqual([{ ids: [old1.id, old2.id], workerId: W1 }])
    expect(holdings.shares.held).toBe(1)
    expect(dispatcher.room(id(1), 'interactive', issuerOf(1))).toBe(0)
    await finish(young)
    await holdings.idle()
  })

  test('that the ledger cannot take back are dropped here and expire by themselves', async () => {
    const release = vi
      .fn<DeliveryLedger['releaseDeliveries']>()
      .mockRejectedValue(new Error('the ledger is unavailable'))
    const { accept, attempted, finish, holdings } = rig({
      concurrencyOf: () => 1,
      releaseDeliveries: release,
    })
    accept(deliveriesTo(1, 3))
    await vi.advanceTimersByTimeAsync(60_001)
    await finish(...attempted)
    expect(release).toHaveBeenCalledTimes(1)
    expect(holdings.shares.held).toBe(0)
  })

  test('of deliveries not yet started are dropped by `clear`, and running attempts end', async () => {
    const { accept, attempted, finishAll, holdings } = rig({ concurrencyOf: () => 2 })
    accept(deliveriesTo(1, 10))
    accept(deliveriesTo(2, 1))
    holdings.clear()
    expect(holdings.shares.held).toBe(3)
    let idle = false
    const becameIdle = holdings.idle().then(() => {
      idle = true
    })
    await vi.advanceTimersByTimeAsync(IDLE_MS)
    expect(idle).toBe(false)
    await finishAll()
    await becameIdle
    expect(attempted).toHaveLength(3)
    expect(holdings.shares.held).toBe(0)
  })

  test('that were lost cause no attempt when their deliveries arrive later', async () => {
    const { accept, attempted, worker, holdings } = rig()
    worker.id = 'w2' as WorkerId
    holdings.clear()
    accept(deliveriesTo(1, 2), W1)
    expect([attempted, holdings.shares.held]).toEqual([[], 0])
    accept(deliveriesTo(1, 2), worker.id)
    expect(attempted).toHaveLength(2)
  })

  test('end under the worker id that took them', async () => {
    const workers: WorkerId[] = []
    const { accept, worker, finishAll } = rig({
      settleRound: async ({ lease }) => {
        workers.push(lease.workerId)
      },
    })
    accept(deliveriesTo(1, 1))
    worker.id = 'w2' as WorkerId
    accept(deliveriesTo(1, 1), worker.id)
    await finishAll()
    expect(workers).toEqual(['w1', 'w2'])
  })
})

describe('the wait for room', () => {
  test('ends at once if there is room or nothing is held', async () => {
    const { holdings, accept } = rig()
    await holdings.waitForRoom(HOUR)
    accept(deliveriesTo(1, 10))
    await holdings.waitForRoom(HOUR)
    expect(Date.now()).toBe(0)
  })

  test('ends as soon as attempts have made room', async () => {
    const { holdings, accept } = rig({ attemptMs: () => 10, concurrencyOf: () => 50 })
    accept(deliveriesTo(1, 300))
    await vi.advanceTimersByTimeAsync(10)
    expect(holdings.shares.held).toBe(250)
    await Promise.all([holdings.waitForRoom(1_000), vi.advanceTimersByTimeAsync(10)])
    expect(Date.now()).toBe(20)
    expect(holdings.shares.held).toBe(200)
  })

  test('never lasts longer than the given time', async () => {
    const { holdings, accept } = rig({ attemptMs: () => 10, concurrencyOf: () => 1 })
    accept(deliveriesTo(1, 300))
    await vi.advanceTimersByTimeAsync(10)
    await Promise.all([holdings.waitForRoom(50), vi.advanceTimersByTimeAsync(50)])
    expect(Date.now()).toBe(60)
    expect(holdings.shares.held).toBeGreaterThan(200)
  })
})
