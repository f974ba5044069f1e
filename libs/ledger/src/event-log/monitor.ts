import { type EventLogMonitor, EventLogUnavailableError, type LogLane, WAITING_MAX } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'
import { POSTGRES_LOG } from './choice.ts'
import { PARTITIONS } from './event-log.ts'

// Reads the oldest record of each partition, and counts records up to a limit.
const LANES = `
  select lanes.lane, oldest.age::float8 as age, waiting.records
    from (values ('interactive'), ('bulk'), ('sessions')) as lanes(lane)
   cross join lateral (
     select coalesce(max(extract(epoch from now() - low.appended_at)), 0) as age
       from generate_series(0, ${PARTITIONS - 1}) as partition
      cross join lateral (
        select r.appended_at from log_records r
         where r.lane = lanes.lane and r.partition = partition::smallint
         order by r.position limit 1
      ) low
   ) oldest
   cross join lateral (
     select count(*)::int as records
       from (select from log_records r where r.lane = lanes.lane limit ${WAITING_MAX}) counted
   ) waiting`

/** Creates the monitor of the event log in PostgreSQL. Any worker can own any partition, so that none is unassigned. */
export function createPostgresMonitor(db: Database): EventLogMonitor {
  let looking: ReturnType<EventLogMonitor['look']> | null = null

  async function look() {
    const { rows } = await db
      .query<{ lane: LogLane; age: number; records: number }>({ name: 'event_log_state', text: LANES })
      .catch((error: unknown) => {
        throw new EventLogUnavailableError('PostgreSQL does not answer', { cause: error })
      })
    const lanes = rows.map(({ lane, age, records }) => ({
      lane,
      unknown: null,
      waiting: records,
      oldestSeconds: Math.max(0, age),
      unassigned: null,
      removed: 0,
    }))
    return { name: POSTGRES_LOG, brokersUnavailable: [], lanes, topics: [] }
  }
  return {
    store: 'postgresql',
    look() {
      looking ??= look().finally(() => {
        looking = null
      })
      return looking
    },
  }
}
