import type { WorkerId } from '@curfew/domain'
import { createLog } from '@curfew/runtime'
import { expect, test, vi } from 'vitest'
import { createLedgerClock } from './ledger-clock.ts'
import { Worker, type WorkerDeps } from './worker.ts'

/** A worker beside a ledger that answers at once, unless the test says otherwise. */
function open(
  ledger: Partial<WorkerDeps['ledger']>,
  {
    leaseMs = 50,
    wallMs = Date.now,
    onLost = () => undefined,
  }: { leaseMs?: number; wallMs?: () => number; onLost?: () => void } = {},
) {
  const log = createLog({ service: 'test', level: 'silent' })
  const monotonicMs = () => performance.now()
  return new Worker({
    ledger: {
      registerWorker: async () => undefined,
      beat: async () => ({ alive: true, workers: 1, rank: 0, now: new Date() }),
      reclaimLeases: async () => 0,
      releaseUnheld: async () => 0,
      retireWorker: async () => 0,
      ...ledger,
    },
    log,
    name: 'test',
    newWorkerId: () => 'a' as WorkerId,
    leaseMs,
    monotonicMs,
    clock: createLedgerClock({ log, wallMs, monotonicMs }),
    limits: { shareAmong: () => undefined },
    holdings: { ids: () => [], clear: onLost },
  })
}

test('the heart beats on while what it gives back takes for ever', async () => {
  const ended = new AbortController()
  const hanging = Promise.withResolvers<number>()
  let beats = 0
  let reclaims = 0
  const worker = open({
    beat: async () => {
      beats++
      return { alive: true, workers: 1, rank: 0, now: new Date() }
    },
    reclaimLeases: () => {
      reclaims++
      return hanging.promise
    },
  })
  const beating = worker.beatUntil(ended.signal)
  await vi.waitFor(() => expect(beats).toBeGreaterThan(5))
  expect(reclaims).toBe(1)
  hanging.resolve(0)
  await vi.waitFor(() => expect(reclaims).toBeGreaterThan(1))
  ended.abort()
  await beating
})

test('a worker whose clock is wrong says that it does not work, and lets go of what it has not started', async () => {
  const said: (boolean | undefined)[] = []
  let aheadMs = 120_000
  let lost = 0
  const worker = open(
    {
      async beat(_id, { working } = {}) {
        said.push(working)
        return { alive: true, workers: 1, rank: 0, now: new Date() }
      },
    },
    { leaseMs: 50_000, wallMs: () => Date.now() + aheadMs, onLost: () => void lost++ },
  )
  await worker.register()
  await worker.register()
  // The answer to the first says that the clocks differ: others hear of it at once.
  expect([said, worker.alive(), lost]).toEqual([[true, false, false], false, 1])
  aheadMs = 0
  await worker.register()
  await worker.register()
  expect([said.slice(3), worker.alive(), lost]).toEqual([[false, true, true], true, 1])
})

test('a lease that is asked for while the ledger is told what is held is not among those looked at', async () => {
  const ended = new AbortController()
  const looked: { readonly asking: readonly number[]; readonly upTo: number }[] = []
  const worker = open({
    async releaseUnheld({ asking, upTo }) {
      looked.push({ asking, upTo })
      return 0
    },
  })
  const given = await worker.leasing(async ({ number }) => number)
  const answer = Promise.withResolvers<number>()
  const asked = worker.leasing(async ({ number }) => number + (await answer.promise))
  const beating = worker.beatUntil(ended.signal)
  await vi.waitFor(() => expect(looked).not.toEqual([]))
  answer.resolve(0)
  const latest = await asked
  expect(looked[0]).toEqual({ asking: [latest], upTo: latest })
  expect(latest).toBeGreaterThan(given)
  ended.abort()
  await beating
})
