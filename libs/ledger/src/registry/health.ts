import { type AttemptError, MAIN_ENDPOINT } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'
import { clampedTime } from '../postgres/times.ts'
import { WAITING_MAX } from './relying-parties.ts'

/** The recent health of one endpoint of a relying party. */
export interface EndpointHealthRecord {
  /** The kind of its channel. */
  readonly kind: string
  readonly name: string
  readonly uri: string
  readonly disabledReason: string | null
  /** When the first of the open breakers opened; null if no worker has an open breaker for it. */
  readonly openedAt: Date | null
  /** Number of deliveries that wait for it, at most `WAITING_MAX`. `waitingSince`: when the oldest of them was planned. */
  readonly waiting: number
  readonly waitingSince: Date | null
  /** Number of its latest deliveries that were acknowledged or dead-lettered. `acknowledged`: number of those acknowledged. */
  readonly settled: number
  readonly acknowledged: number
  /** Number of those acknowledged by a 400, which the owner registered to mean that the session is over. */
  readonly alreadyEnded: number
  readonly lastAcknowledgedAt: Date | null
  /** The latest failed attempt of its latest deliveries. */
  readonly lastError: AttemptError | null
  /** Median, 95th and 99th percentile from acceptance to acknowledgement, in milliseconds; null without any. */
  readonly elapsedMs: readonly [number, number, number] | null
}

/** Number of latest deliveries that are read. */
const LATEST = 1_000

const ENDPOINTS_HEALTH = `
  select b.kind, b.endpoint as name, b.uri, b.disabled_reason as "disabledReason",
         (select min(opened_at) from breakers where binding_id = b.id) as "openedAt",
         w.waiting, w.since as "waitingSince",
         l.settled, l.acknowledged, l."alreadyEnded", l.last as "lastAcknowledgedAt", l.elapsed as "elapsedMs",
         f.started_at as "startedAt", f.status, f.error_class as "errorClass", f.error, f.error_description as "errorDescription"
    from relying_parties p
    join bindings b on b.relying_party_id = p.id and b.registered
    cross join lateral (
      select count(*) as waiting, min(planned_at) as since
        from (select planned_at from deliveries where binding_id = b.id and due_at is not null limit $3) waiting
    ) w
    cross join lateral (
      select count(*) filter (where state in ('acknowledged', 'dead_lettered')) as settled,
             count(*) filter (where state = 'acknowledged') as acknowledged,
             count(*) filter (where state = 'acknowledged' and status = 400) as "alreadyEnded",
             max(settled_at) filter (where state = 'acknowledged') as last,
             percentile_disc(array[0.5, 0.95, 0.99])
               within group (order by round(extract(epoch from settled_at - accepted_at) * 1000)::float8)
               filter (where state = 'acknowledged' and generation = 0) as elapsed
        from (
          select d.state, d.status, d.settled_at, d.generation, e.accepted_at
            from (select * from deliveries where binding_id = b.id order by id desc limit $4) d
            join events e on e.id = d.event_id
        ) latest
    ) l
    left join lateral (
      select a.*
        from (select id, planned_at, attempts, state from deliveries where binding_id = b.id order by id desc limit $4) d
        cross join lateral (
          select * from attempts
           where delivery_id = d.id and outcome <> 'acknowledged'
             and started_at between ${clampedTime('d.planned_at')} - interval '1 day' and now() + interval '1 day'
           order by number desc limit 1
        ) a
       where d.attempts > case d.state when 'acknowledged' then 1 else 0 end
       order by a.started_at desc limit 1
    ) f on true
   where p.issuer = $1 and p.client_id = $2 and p.deleted_at is null
   order by b.kind, b.endpoint <> '${MAIN_ENDPOINT}', b.endpoint collate "C"`

type EndpointHealthRow = Omit<EndpointHealthRecord, 'lastError'> &
  Omit<AttemptError, 'startedAt'> & { readonly startedAt: Date | null }

/** Reads the recent health of the endpoints of a relying party. The number of rows that it reads is bounded. */
export async function endpointsHealth(
  db: Database,
  { issuer, clientId }: { issuer: string; clientId: string },
): Promise<readonly EndpointHealthRecord[]> {
  const { rows } = await db.query<EndpointHealthRow>({
    text: ENDPOINTS_HEALTH,
    values: [issuer, clientId, WAITING_MAX, LATEST],
  })
  return rows.map(({ startedAt, status, errorClass, error, errorDescription, ...row }) => ({
    ...row,
    lastError: startedAt === null ? null : { startedAt, status, errorClass, error, errorDescription },
  }))
}
