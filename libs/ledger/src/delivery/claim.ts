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
import { plainArray } from '../postgres/arrays.ts'
import type { Database } from '../postgres/database.ts'
import { isDataFault, type OnDeliveryFault, splitAround } from '../postgres/faults.ts'
import { namedParameters, rowParameters } from '../postgres/parameters.ts'
import { subjectNamed } from './event-subjects.ts'
import { narrowClaimed } from './narrow.ts'
import { giveUpRefused } from './unrecordable.ts'

const ASKED = namedParameters({
  worker: 'uuid',
  now: 'timestamptz',
  interactive: 'int',
  bulk: 'int',
  most: 'int',
  after: 'bigint',
})
const { $ } = ASKED
const KNOWN = rowParameters<readonly [BindingId, Slots]>(
  {
    binding_id: ['bigint', ([bindingId]) => bindingId],
    interactive: ['int', ([, { interactive }]) => interactive],
    bulk: ['int', ([, { bulk }]) => bulk],
  },
  { after: ASKED },
)
const LEASE = namedParameters({ number: 'bigint' }, { after: KNOWN })

// Finds the bindings and lanes that have waiting deliveries first, by skipping through the index from one to the next. Then takes
// as many deliveries from each as it has slots. So the backlog of a dead RP or of a mass logout is never read on the way to
// another binding. Begins behind the binding `after`: if `most` cuts the list, bindings with high ids come first in another
// round. Leases are dated by the database's clock, like heartbeats: the clock of one worker may be wrong. Updates rows by an
// array of ids: the planner estimates that a join returns a tenth of the table, and scans all of it.
const DUE = `
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
  me as (select id from workers where id = ${$.worker} for key share),
  due as (
    select d.id
      from (select * from waiting order by lane desc, binding_id <= ${$.after}, binding_id) w
      left join ${KNOWN.as('known')} using (binding_id)
      cross join me
      cross join lateral (
        select id from deliveries
         where binding_id = w.binding_id and lane = w.lane and due_at <= ${$.now} and state = 'pending'
         order by due_at
         limit case w.lane when 'bulk' then coalesce(known.bulk, ${$.bulk}) else coalesce(known.interactive, ${$.interactive}) end
           for update skip locked
      ) d
     limit ${$.most}
  )`
/** SQL that leases the rows of `due`. @param at when the lease was given. @param number of the lease. */
const claim = (at: string, number: string) => `
  claimed as (
    update deliveries d
       set state = 'in_flight', due_at = null, leased_by = $1, leased_at = ${at}
     where d.id = any (array(select id from due))
    returning d.id, d.binding_id, d.event_id, d.sid, d.session_ends_at, d.attempts, d.retries, d.refusals, d.lane, d.first_message,
              d.sub as own, d.sub_withheld
  ),
  leased as (
    insert into leases as l (worker_id, number, leased_at, delivery_ids)
    select $1, ${number}::bigint, ${at}, array_agg(id) from claimed having count(*) > 0
    on conflict (worker_id, number) do update set delivery_ids = l.delivery_ids || excluded.delivery_ids
  )
  select c.*, e.iss, e.given_id, ${subjectNamed('c.own', 'c.sub_withheld')} as sub, e.email, e.scope, e.accepted_at, e.txn, e.traceparent,
         c.sid is null and exists (select from session_issuers x where x.iss = e.iss) as indexed
    from claimed c join events e on e.id = c.event_id`
const CLAIM_DUE = `${DUE},${claim('now()', LEASE.$.number)}`

// Find the delivery that makes a claim fail: FIND_DUE returns the ids that CLAIM_DUE would claim, CLAIM_NAMED claims some of
// them. The parts of one claim share one lease, so all of its deliveries have the same `leased_at`.
const FIND_DUE = `${DUE} select id from due`
const CLAIM_NAMED = `
  with me as (select id from workers where id = $1 for key share),
  due as (
    select d.id from deliveries d, me where d.id = any($3::uuid[]) and d.due_at <= $2 and d.state = 'pending' for update of d skip locked
  ),
  begun as (
    select coalesce((select leased_at from leases where worker_id = $1 and number = $4), now()) as at
  ),${claim('(select at from begun)', '$4')}`

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
  readonly email: string | null
  readonly scope: LogoutEvent['scope']
  readonly accepted_at: Date
  readonly txn: string | null
  readonly traceparent: string | null
  readonly first_message: string | null
  /** Whether it names the subject, and the session index may have sessions of that subject. */
  readonly indexed: boolean
}

/** A lease on deliveries: the worker, and a number that this worker has not used before. */
export interface Lease {
  readonly workerId: WorkerId
  readonly number: number
}

/** The number of a binding's deliveries that a worker can take now, by lane. */
export interface Slots {
  readonly interactive: number
  readonly bulk: number
}

export interface ClaimRequest {
  readonly lease: Lease
  readonly now: Date
  /** The slots of the bindings that the worker knows. */
  readonly slots: ReadonlyMap<BindingId, Slots>
  /** The slots of every other binding. */
  readonly otherSlots: Slots
  /** Most deliveries in all. */
  readonly limit: number
  /** The binding behind which the claim begins. Default: it begins with the first binding. */
  readonly after?: number
}

/**
 * Leases due deliveries to a worker: the interactive lane before the bulk lane, and the oldest first for each binding. Leases
 * none if the worker was declared dead.
 *
 * A delivery that names the subject, and would end a session that began later, is settled instead. A delivery that PostgreSQL
 * refuses to lease becomes a dead letter, `unrecordable`; the others are leased.
 */
export async function claimDue(
  db: Database,
  request: ClaimRequest,
  onFault: OnDeliveryFault = () => undefined,
): Promise<readonly InFlightDelivery[]> {
  const { lease, now } = request
  const values = valuesOf(request)
  const leased = await db
    .query<ClaimedRow>({ name: 'claim_due', text: CLAIM_DUE, values: [...values, ...LEASE.values(lease)] })
    .catch((error: unknown) => {
      if (isDataFault(error)) return null
      throw error
    })
  if (leased !== null) return withoutNarrowed(db, leased.rows, lease.workerId, onFault)
  const { rows: due } = await db.query<{ id: DeliveryId }>({ text: FIND_DUE, values })
  const claimed: InFlightDelivery[] = []
  const refused = await splitAround(
    due.map(({ id }) => id),
    async (ids) => {
      const { rows } = await db.query<ClaimedRow>({
        text: CLAIM_NAMED,
        values: [lease.workerId, now, plainArray(ids), lease.number],
      })
      claimed.push(...(await withoutNarrowed(db, rows, lease.workerId, onFault)))
    },
  )
  await giveUpRefused(db, refused, { workerId: null, now, doing: 'claim', onFault })
  return claimed
}

function valuesOf({ lease, now, slots, otherSlots, limit, after = 0 }: ClaimRequest): readonly unknown[] {
  return [
    ...ASKED.values({ worker: lease.workerId, now, ...otherSlots, most: limit, after }),
    ...KNOWN.values([...slots]),
  ]
}

/**
 * Settles the claimed deliveries that would end a later session, and returns the others. If PostgreSQL refuses to settle one, it
 * becomes a dead letter: an attempt would end that session.
 */
async function withoutNarrowed(
  db: Database,
  rows: readonly ClaimedRow[],
  workerId: WorkerId,
  onFault: OnDeliveryFault,
): Promise<readonly InFlightDelivery[]> {
  const indexed = rows.flatMap(({ id, indexed }) => (indexed ? [id] : []))
  if (indexed.length === 0) return rows.map(toDelivery)
  const settled = new Set<DeliveryId>()
  const refused = await splitAround(indexed, async (ids) => {
    for (const id of await narrowClaimed(db, { ids, workerId })) settled.add(id)
  })
  await giveUpRefused(db, refused, { workerId, now: new Date(), doing: 'narrow', onFault })
  for (const { item: id } of refused) settled.add(id)
  return rows.filter(({ id }) => !settled.has(id)).map(toDelivery)
}

function toDelivery(row: ClaimedRow): InFlightDelivery {
  return {
    state: 'in_flight',
    id: row.id,
    bindingId: row.binding_id,
    eventId: row.event_id,
    sid: row.sid,
    sessionEndsAt: row.session_ends_at,
    event: {
      ...{ iss: row.iss, givenId: row.given_id, sub: row.sub, scope: row.scope, lane: row.lane },
      ...(row.email !== null && { email: row.email }),
      ...(row.txn !== null && { txn: row.txn }),
      ...{ acceptedAt: row.accepted_at, traceparent: row.traceparent },
    },
    attempts: row.attempts,
    retries: row.retries,
    refusals: row.refusals,
    ...(row.first_message !== null && { firstMessage: row.first_message }),
  }
}

// Keeps the order: a released delivery is due since it was leased, or since it was planned if it was never attempted. `due_at`
// is never in the future, even if PostgreSQL's clock was set back.
const RELEASE_DELIVERIES = `
  update deliveries set state = 'pending', due_at = least(case when attempts = 0 then planned_at else leased_at end, now())
   where id = any($2::uuid[]) and state = 'in_flight' and leased_by = $1`

/**
 * Gives back deliveries that a worker holds but will not attempt now. This costs no attempt. A delivery that PostgreSQL refuses
 * to give back becomes a dead letter.
 */
export async function releaseDeliveries(
  db: Database,
  { ids, workerId }: { ids: readonly DeliveryId[]; workerId: WorkerId },
  onFault: OnDeliveryFault = () => undefined,
): Promise<void> {
  const refused = await splitAround(ids, async (part) => {
    await db.query({
      name: 'release_deliveries',
      text: RELEASE_DELIVERIES,
      values: [workerId, plainArray(part)],
    })
  })
  await giveUpRefused(db, refused, { workerId, now: new Date(), doing: 'release', onFault })
}
