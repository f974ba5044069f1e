import type {
  BindingId,
  DeliveryId,
  EventId,
  GivenEventId,
  InFlightDelivery,
  Issuer,
  Lane,
  LogoutEvent,
  Sid,
  Subject,
  WorkerId,
} from '@curfew/domain'
import { plainArray } from './arrays.ts'
import type { Database } from './database.ts'

// First the lanes of bindings that have anything waiting, by skipping from one to the next in the index; then of each as
// many as it has slots for. What a dead relying party or a mass logout has waiting is never read on the way to another's.
// Leases are dated by the database's clock, like the heart's beats: one worker's own may be wrong. Rows are updated by an
// array of ids: a join would be planned for a tenth of the table, and so as a scan of it.
const CLAIM_DUE = `
  with recursive waiting as (
    (select binding_id, lane from deliveries where due_at is not null order by binding_id, lane limit 1)
    union all
    select later.binding_id, later.lane
      from waiting w
      cross join lateral (
        select d.binding_id, d.lane from deliveries d
         where d.due_at is not null and (d.binding_id, d.lane) > (w.binding_id, w.lane)
         order by d.binding_id, d.lane limit 1
      ) later
  ),
  me as (select id from workers where id = $1 for key share),
  due as (
    select d.id
      from (select * from waiting order by lane desc, binding_id) w
      left join unnest($3::bigint[], $4::int[], $5::int[]) as known(binding_id, interactive, bulk) using (binding_id)
      cross join me
      cross join lateral (
        select id from deliveries
         where binding_id = w.binding_id and lane = w.lane and due_at <= $2
         order by due_at
         limit case w.lane when 'bulk' then coalesce(known.bulk, $7) else coalesce(known.interactive, $6) end
           for update skip locked
      ) d
     limit $8
  ),
  claimed as (
    update deliveries d
       set state = 'in_flight', due_at = null, leased_by = $1, leased_at = now()
     where d.id = any (array(select id from due))
    returning d.id, d.binding_id, d.event_id, d.sid, d.session_ends_at, d.attempts, d.retries, d.refusals, d.lane
  )
  select c.*, e.iss, e.given_id, e.sub, e.scope, e.accepted_at
    from claimed c join events e on e.id = c.event_id`

interface ClaimedRow {
  readonly id: DeliveryId
  readonly binding_id: BindingId
  readonly event_id: EventId
  readonly sid: Sid | null
  readonly session_ends_at: Date | null
  readonly attempts: number
  readonly retries: number
  readonly refusals: number
  readonly lane: Lane
  readonly iss: Issuer
  readonly given_id: GivenEventId
  readonly sub: Subject | null
  readonly scope: LogoutEvent['scope']
  readonly accepted_at: Date
}

/** How many of a binding's deliveries a worker can take now. */
export interface Slots {
  readonly interactive: number
  readonly bulk: number
}

export interface ClaimRequest {
  readonly workerId: WorkerId
  readonly now: Date
  /** For the bindings that the worker knows of. */
  readonly slots: ReadonlyMap<BindingId, Slots>
  /** For each of the others. */
  readonly slotsElse: Slots
  /** Most in all. */
  readonly limit: number
}

/**
 * Leases to `workerId` what is due, the interactive lane before the other, and oldest first for each binding. Nothing when
 * the worker was declared dead.
 */
export async function claimDue(
  db: Database,
  { workerId, now, slots, slotsElse, limit }: ClaimRequest,
): Promise<readonly InFlightDelivery[]> {
  const known = [...slots.values()]
  const { rows } = await db.query<ClaimedRow>({
    name: 'claim_due',
    text: CLAIM_DUE,
    values: [
      workerId,
      now,
      plainArray([...slots.keys()]),
      plainArray(known.map(({ interactive }) => interactive)),
      plainArray(known.map(({ bulk }) => bulk)),
      slotsElse.interactive,
      slotsElse.bulk,
      limit,
    ],
  })
  return rows.map((row) => ({
    state: 'in_flight',
    id: row.id,
    bindingId: row.binding_id,
    eventId: row.event_id,
    sid: row.sid,
    sessionEndsAt: row.session_ends_at,
    event: {
      ...{ iss: row.iss, givenId: row.given_id, sub: row.sub, scope: row.scope, lane: row.lane },
      acceptedAt: row.accepted_at,
    },
    attempts: row.attempts,
    retries: row.retries,
    refusals: row.refusals,
  }))
}

// What came first stays first, and is known to have waited: since it was planned, where nobody has tried it yet.
const RELEASE_DELIVERIES = `
  update deliveries set state = 'pending', due_at = case when attempts = 0 then planned_at else leased_at end
   where id = any($2::uuid[]) and state = 'in_flight' and leased_by = $1`

/** Gives back what a worker holds but will not attempt now. Costs no attempt. */
export async function releaseDeliveries(
  db: Database,
  { ids, workerId }: { ids: readonly DeliveryId[]; workerId: WorkerId },
): Promise<void> {
  await db.query({
    name: 'release_deliveries',
    text: RELEASE_DELIVERIES,
    values: [workerId, plainArray(ids)],
  })
}
