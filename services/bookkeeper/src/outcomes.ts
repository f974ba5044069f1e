import { encodeOutcome } from '@curfew/contract'
import type { OutcomeRecord, Publisher } from '@curfew/domain'
import { type Database, publishAcknowledgements } from '@curfew/ledger'

/** Longer than any statement may take: PostgreSQL gives those up after 30 s. */
export const OUTCOMES_LAG_MS = 40_000
/** What is read at once, in milliseconds of the ledger's time; more where nothing happened. */
const SPAN_MS = 1_000
const SPAN_MS_MAX = 3_600_000
/** Records handed over at once: few enough for the publisher's queue. */
const CHUNK = 1_000

/** One round of following the ledger: publishes the next span. @returns whether there is more to look at now. */
export type OutcomesRound = () => Promise<boolean>

/** @param lagMs as `publishAcknowledgements` takes it. */
export function createOutcomesRound({
  db,
  publisher,
  lagMs,
}: {
  db: Database
  publisher: Pick<Publisher, 'publish'>
  lagMs: number
}): OutcomesRound {
  let spanMs = SPAN_MS
  return async () => {
    const result = await publishAcknowledgements(db, {
      ...{ spanMs, lagMs },
      publish: (records) => publishOutcomes(publisher, records),
    })
    if (result === null) return false
    spanMs = result.published === 0 && result.more ? Math.min(spanMs * 2, SPAN_MS_MAX) : SPAN_MS
    return result.more
  }
}

/** Publishes settled deliveries, in their order. */
export async function publishOutcomes(
  publisher: Pick<Publisher, 'publish'>,
  records: readonly OutcomeRecord[],
): Promise<void> {
  for (let start = 0; start < records.length; start += CHUNK) {
    await publisher.publish('outcomes', records.slice(start, start + CHUNK).map(encodeOutcome))
  }
}
