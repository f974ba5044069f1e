import type { Database } from './database.ts'
import { PARTITIONS } from './event-log.ts'

// One look at the low end of each partition.
const OLDEST_RECORDS = `
  select lane, coalesce(max(extract(epoch from now() - oldest.appended_at)), 0)::float8 as age
    from (values ('interactive'), ('bulk'), ('sessions')) as lanes(lane)
   cross join generate_series(0, ${PARTITIONS - 1}) as partition
    left join lateral (
      select r.appended_at from log_records r
       where r.lane = lanes.lane and r.partition = partition::smallint
       order by r.position limit 1
    ) oldest on true
   group by lane`

/** How long the oldest record of each lane has waited in the event log, in seconds; 0 where none does, or the log is Kafka. */
export async function eventLogAges(db: Database): Promise<ReadonlyMap<string, number>> {
  const { rows } = await db.query<{ lane: string; age: number }>({
    name: 'event_log_ages',
    text: OLDEST_RECORDS,
  })
  return new Map(rows.map(({ lane, age }) => [lane, Math.max(0, age)]))
}
