import { logKey, type ReceiptSubject, receiptClaims } from '@curfew/domain'
import {
  findUnreceipted,
  insertReceipts,
  lockReceiptLog,
  type Projector,
  type Unreceipted,
} from '@curfew/ledger'
import { errorTypeOf, type Log, startBatchSpan, startSpan } from '@curfew/runtime'
import type { LogKeeper } from '@curfew/tokens'

/** How receipts are issued. */
export interface ReceiptSettings {
  readonly subject: ReceiptSubject
  /** The name that the log gets when it is created; null for a generated name. */
  readonly origin: string | null
}

export interface ReceiptDeps extends ReceiptSettings {
  readonly keeper: Pick<LogKeeper, 'newLog' | 'subjectHash'>
  readonly now: () => Date
  readonly newJti: () => string
  readonly log: Log
  /** Receives the number of issued receipts. */
  readonly onIssued: (receipts: number) => void
}

/**
 * Creates the projector that issues a receipt for every settled event and appends it to the log. It signs nothing: the log's
 * checkpoints vouch for its entries, and a receipt can be signed at any later time.
 */
export function createReceiptProjector(deps: ReceiptDeps): Projector {
  let warned = false
  return async (transaction, entries) => {
    const settled = await findUnreceipted(transaction, entries)
    if (settled.length === 0) return
    const spans = startReceipts(settled)
    try {
      await issue(transaction, settled)
    } catch (error) {
      spans.end(errorTypeOf(error))
      throw error
    }
    spans.end(null)
    deps.onIssued(settled.length)
  }

  async function issue(
    transaction: Parameters<Projector>[0],
    settled: readonly Unreceipted[],
  ): Promise<void> {
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
  }
}

/** Starts the span of each receipt, below the plan of its event, and one of their batch. */
function startReceipts(settled: readonly Unreceipted[]): { end(error: string | null): void } {
  const batch = startBatchSpan({
    ...{ name: 'receipts', role: 'internal' },
    items: settled.map(({ traceparent }) => traceparent),
    attributes: () => ({ 'curfew.receipts': settled.length }),
  })
  const links = batch.recorded ? [batch.traceparent] : []
  const spans = settled.flatMap(({ event, traceparent: parent, revision }) => {
    if (parent === null) return []
    const span = startSpan({
      ...{ name: 'receipt', role: 'internal', parent, links },
      attributes: () => ({ 'curfew.event.id': event.givenId, 'curfew.receipt.revision': revision }),
    })
    return span.recorded ? [span] : []
  })
  return {
    end(error) {
      for (const span of [...spans, batch]) span.end(undefined, error)
    },
  }
}
