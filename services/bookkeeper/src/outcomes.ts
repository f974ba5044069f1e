import { encodeOutcome } from '@curfew/contract'
import type { OutcomeRecord, Publisher } from '@curfew/domain'
import { type Database, publishAcknowledgements } from '@curfew/ledger'

/** Longer than any statement may take: PostgreSQL cancels statements after 30 s. */
export const OUTCOMES_LAG_MS = 40_000
/** The interval of the ledger's time that one round reads, in milliseconds. It grows while nothing happened. */
const SPAN_MS = 1_000
const SPAN_MS_MAX = 3_600_000
/** Records published at once. The publisher's queue has room for them. */
const CHUNK = 1_000

/** A round that publishes the next interval of the ledger. @returns whether more can be published at once. */
export type OutcomesRound = () => Promise<boolean>

/** Creates the round that publishes acknowledgements. @param lagMs as for `publishAcknowledgements`. */
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

/** Publishes settled deliveries in order. */
export async function publishOutcomes(
  publisher: Pick<Publisher, 'publish'>,
  records: readonly OutcomeRecord[],
): Promise<void> {
  for (let start = 0; start < records.length; start += CHUNK) {
    await publisher.publish('outcomes', records.slice(start, start + CHUNK).map(encodeOutcome))
  }
}
