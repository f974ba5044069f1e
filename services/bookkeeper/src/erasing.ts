import {
  claimErasure,
  type Database,
  type ErasureRecord,
  eraseSubject,
  failErasure,
  openReceiptLog,
} from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { LogKeeper } from '@curfew/tokens'
import { createJobGuard } from './job-guard.ts'
import type { ReceiptSettings } from './receipts.ts'
import type { Job } from './repeat.ts'

const PAUSE_MS = 1_000
/** Longer than a search takes. Another bookkeeper repeats a search that takes longer, which does no harm. */
const LEASE_MS = 60_000

export interface ErasingDeps {
  readonly db: Database
  readonly logKeeper: Pick<LogKeeper, 'newLog' | 'subjectHash'>
  readonly receipts: Pick<ReceiptSettings, 'origin'>
  readonly now: () => Date
  readonly log: Log
}

/** Creates the job that searches for remaining data of subjects to erase, one subject per round. */
export function createErasingJob({ db, logKeeper, receipts, now, log }: ErasingDeps): Job {
  const guard = createJobGuard({
    ...{ log, name: 'erasure', idMember: 'erasure_id' },
    monotonicMs: () => performance.now(),
  })
  const tags = async (names: readonly string[]) => {
    const keys = await openReceiptLog(db, () => logKeeper.newLog(receipts.origin))
    return names.map((await logKeeper.subjectHash(keys)).tag)
  }
  return {
    name: 'erasing',
    pauseMs: PAUSE_MS,
    failurePauseMs: PAUSE_MS,
    async round() {
      const id = await claimErasure(db, { now: now(), leaseUntil: new Date(now().getTime() + LEASE_MS) })
      if (id === null) return false
      let erasure: ErasureRecord | null
      try {
        erasure = await eraseSubject(db, { id, now, tags })
      } catch (error) {
        // The search is repeated when the lease expires. A failure does not block the other erasures.
        const end = (failure: string) => failErasure(db, { id, failure })
        await guard.failed({ id, place: '', end }, error)
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
    },
  }
}
