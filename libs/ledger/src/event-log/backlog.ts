import type { LogLane } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'
import { PARTITIONS } from './event-log.ts'

// All lanes share one sequence of positions. So the span from a lane's oldest record to its newest is at least the number of its
// records. The span is cheap to read at both ends of each partition. Only a lane with a long span is counted.
const SPANS = `
  with ends as (
    select lanes.lane, partition, low.position as low, high.position as high
      from (values ('interactive'), ('bulk'), ('sessions')) as lanes(lane)
     cross join generate_series(0, ${PARTITIONS - 1}) as partition
     cross join lateral (
       select r.position from log_records r
        where r.lane = lanes.lane and r.partition = partition::smallint order by r.position limit 1
     ) low
     cross join lateral (
       select r.position from log_records r
        where r.lane = lanes.lane and r.partition = partition::smallint order by r.position desc limit 1
     ) high
  )
  select lane, max(high) - min(low) + 1 as records from ends group by lane`

const COUNT = `
  select count(*) as records from (select from log_records where lane = $1 limit $2) waiting`

/** Finds the lanes of the event log in PostgreSQL in which more than `max` records wait. */
export async function fullLanes(
  db: Database,
  { lanes, max }: { lanes: readonly LogLane[]; max: number },
): Promise<ReadonlySet<LogLane>> {
  const { rows } = await db.query<{ lane: LogLane; records: number }>({ name: 'log_spans', text: SPANS })
  const full = new Set<LogLane>()
  for (const { lane, records } of rows) {
    if (!lanes.includes(lane) || records <= max) continue
    const { rows: counted } = await db.query<{ records: number }>({ text: COUNT, values: [lane, max + 1] })
    if ((counted[0]?.records ?? 0) > max) full.add(lane)
  }
  return full
}
