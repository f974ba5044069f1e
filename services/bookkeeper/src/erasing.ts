import type { ErasureRecord } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { JobGuard } from './job-guard.ts'

export interface ErasingDeps {
  /** The request that is to be looked at first, if any is; nobody else gets it before `leaseUntil`. */
  readonly claim: (request: { now: Date; leaseUntil: Date }) => Promise<string | null>
  readonly erase: (id: string) => Promise<ErasureRecord | null>
  /** Ends a request whose search cannot go on. */
  readonly fail: (request: { id: string; failure: string }) => Promise<void>
  readonly guard: Pick<JobGuard, 'failed' | 'succeeded'>
  readonly now: () => Date
  readonly log: Log
}

/** Longer than a look takes; one that took longer is taken up again by another, which does no harm. */
const LEASE_MS = 60_000

/** Looks for what is left of one subject that is to be forgotten. @returns whether there may be another. */
export async function erasingRound({ claim, erase, fail, guard, now, log }: ErasingDeps): Promise<boolean> {
  const id = await claim({ now: now(), leaseUntil: new Date(now().getTime() + LEASE_MS) })
  if (id === null) return false
  let erasure: ErasureRecord | null
  try {
    erasure = await erase(id)
  } catch (error) {
    // It is looked at again once its lease is over. The others are not held up by it.
    await guard.failed({ id, place: '', end: (failure) => fail({ id, failure }) }, error)
    return true
  }
  guard.succeeded(id)
  if (erasure !== null) {
    const { erased, waiting, closedAt } = erasure
    const line = { erasure_id: id, erased, waiting }
    if (closedAt === null) log.debug({ event: 'erasure.looked', ...line })
    else log.info({ event: 'erasure.closed', ...line })
  }
  return true
}
