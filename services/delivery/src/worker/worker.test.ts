import type { WorkerId } from '@curfew/domain'
import { createLog } from '@curfew/runtime'
import { expect, test, vi } from 'vitest'
import { createLedgerClock } from './ledger-clock.ts'
import { Worker, type WorkerDeps } from './worker.ts'

/** A worker with a ledger that answers at once, unless the test says otherwise. */
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

test('heartbeats continue while a reclaim of leases hangs', async () => {
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

test('a worker with a wrong clock reports that it does not work, and drops deliveries that it has not started', async () => {
  const reported: (boolean | undefined)[] = []
  let aheadMs = 120_000
  let lost = 0
  const worker = open(
    {
      async beat(_id, { working } = {}) {
        reported.push(working)
        return { alive: true, workers: 1, rank: 0, now: new Date() }
      },
    },
    { leaseMs: 50_000, wallMs: () => Date.now() + aheadMs, onLost: () => void lost++ },
  )
  await worker.register()
  await worker.register()
  // The first answer shows that the clocks differ. The worker reports this to the others at once.
  expect([reported, worker.alive(), lost]).toEqual([[true, false, false], false, 1])
  aheadMs = 0
  await worker.register()
  await worker.register()
  expect([reported.slice(3), worker.alive(), lost]).toEqual([[false, true, true], true, 1])
})

test('the check of unheld leases leaves out a lease whose answer is outstanding', async () => {
  const ended = new AbortController()
  const checks: { readonly asking: readonly number[]; readonly upTo: number }[] = []
  const worker = open({
    async releaseUnheld({ asking, upTo }) {
      checks.push({ asking, upTo })
      return 0
    },
  })
  const given = await worker.leasing(async ({ number }) => number)
  const answer = Promise.withResolvers<number>()
  const outstanding = worker.leasing(async ({ number }) => number + (await answer.promise))
  const beating = worker.beatUntil(ended.signal)
  await vi.waitFor(() => expect(checks).not.toEqual([]))
  answer.resolve(0)
  const latest = await outstanding
  expect(checks[0]).toEqual({ asking: [latest], upTo: latest })
  expect(latest).toBeGreaterThan(given)
  ended.abort()
  await beating
})
