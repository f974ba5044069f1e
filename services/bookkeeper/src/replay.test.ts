import type { ReplayBatch, ReplayJob } from '@curfew/ledger'
import { expect, test, vi } from 'vitest'
import { createJobGuard } from './job-guard.ts'
import { replayRound } from './replay.ts'

// Goal: every job has its turn. Method: jobs of the test's own.

const job = (id: string): ReplayJob => ({
  id,
  filter: { issuer: null, clientIds: null, reason: null, from: null, to: null, ids: null },
  includeLapsed: false,
  requestedBy: 'test',
  requestedAt: new Date(0),
  state: 'running',
  endedAt: null,
  total: 1,
  done: 0,
  refused: 0,
  failure: null,
})

test('a job that fails is told of, and holds up no other', async () => {
  const warn = vi.fn()
  const log = { isLevelEnabled: () => true, debug: vi.fn(), info: vi.fn(), warn, error: vi.fn() }
  const replayed: number[] = []
  await replayRound({
    runningReplays: async () => [job('bad'), job('good')],
    takeBatch: async ({ id }): Promise<ReplayBatch> => {
      if (id === 'bad') throw new Error('on purpose')
      return { taken: 1, state: 'done' }
    },
    fail: vi.fn(),
    guard: createJobGuard({ log, name: 'replay', idMember: 'replay_id', monotonicMs: () => 0 }),
    log,
    onReplayed: (deliveries) => void replayed.push(deliveries),
  })
  expect(replayed).toEqual([1])
  expect(warn).toHaveBeenCalledExactlyOnceWith(
    expect.objectContaining({ event: 'replay.failed', replay_id: 'bad' }),
  )
})
