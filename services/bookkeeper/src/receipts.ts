import { logKey, type ReceiptSubject, receiptClaims } from '@curfew/domain'
import { findUnreceipted, insertReceipts, lockReceiptLog, type Projector } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { LogKeeper } from '@curfew/tokens'

/** How receipts are issued. */
export interface ReceiptSettings {
  readonly subject: ReceiptSubject
  /** What the log is called from its beginning on; null: a name of its own. */
  readonly origin: string | null
}

export interface ReceiptDeps extends ReceiptSettings {
  readonly keeper: Pick<LogKeeper, 'newLog' | 'subjectHash'>
  readonly now: () => Date
  readonly newJti: () => string
  readonly log: Log
  /** Told how many were issued. */
  readonly onIssued: (receipts: number) => void
}

/**
 * Gives every event that is settled its receipt, and the receipt its place in the log. Nothing is signed here: what the
 * log has it vouches for by its checkpoints, and a signature is the same whenever it is made.
 */
export function createReceiptProjector(deps: ReceiptDeps): Projector {
  let warned = false
  return async (transaction, entries) => {
    const settled = await findUnreceipted(transaction, entries)
    if (settled.length === 0) return
    const log = await lockReceiptLog(transaction, () => deps.keeper.newLog(deps.origin))
    const { origin, size } = log
    if (!warned && deps.origin !== null && deps.origin !== origin) {
      deps.log.error({ event: 'log.origin_kept', origin, configured: deps.origin })
      warned = true
    }
    const hash = await deps.keeper.subjectHash(log)
    const issuedAt = deps.now()
    const receipts = settled.map(({ event, session_sub, targets, withinMs, replaces, ...settlement }, at) => {
      const place = { origin, index: size + at, replaces, issuedAt, jti: deps.newJti() }
      const keyedHash = deps.subject === 'hash' ? hash.of(event.id) : null
      const claims = receiptClaims(event, targets, { place, withinMs, keyedHash })
      return {
        event,
        ...settlement,
        payload: JSON.stringify(claims),
        subjectTag: hash.tag(logKey({ ...event, sub: event.sub ?? session_sub })),
      }
    })
    await insertReceipts(transaction, log, receipts)
    deps.onIssued(receipts.length)
  }
}
