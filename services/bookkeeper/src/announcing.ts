import { explain } from '@curfew/channels'
import { encodeDeadLetter } from '@curfew/contract'
import type { Publisher } from '@curfew/domain'
import { announceDeadLetters, type Database, outcomesOf } from '@curfew/ledger'
import { createThrottle, type Log, type Metrics } from '@curfew/runtime'
import { publishOutcomes } from './outcomes.ts'
import type { Job } from './repeat.ts'

const BATCH = 200
const PAUSE_MS = 1_000

export interface AnnouncingDeps {
  readonly db: Database
  /** Null if there is no topic to publish to. */
  readonly publisher: Publisher | null
  /** Dead letters of one relying party within this time make one notification, in milliseconds. */
  readonly windowMs: number
  readonly log: Log
  readonly metrics: Pick<Metrics, 'counter'>
}

/** Creates the job that notifies operators of new dead letters and publishes them. */
export function createAnnouncingJob({ db, publisher, windowMs, log, metrics }: AnnouncingDeps): Job {
  const published = metrics.counter(
    'dead_letters_published_total',
    'Dead letters published, including repetitions.',
  )
  const isTime = createThrottle()
  return {
    name: 'announcing',
    pauseMs: PAUSE_MS,
    failurePauseMs: PAUSE_MS,
    async round() {
      const announced = await announceDeadLetters(db, {
        limit: BATCH,
        windowMs,
        onFault: ({ deliveryId, became, error }) => {
          if (isTime(deliveryId))
            log.error({ event: 'dead-letter.unannounced', delivery_id: deliveryId, became, err: error })
        },
        async publish(records) {
          if (publisher === null) return
          await publisher.publish(
            'deadLetters',
            records.map((record) =>
              encodeDeadLetter(record, explain(record.channel, record.reason, record.lastAttempt, record)),
            ),
          )
          const ids = records.map(({ id }) => id)
          await publishOutcomes(publisher, await outcomesOf(db, ids))
          published.inc(records.length)
        },
      })
      return announced === BATCH
    },
  }
}
