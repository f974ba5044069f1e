import {
  type AttemptOutcome,
  type BindingId,
  type DeliveryId,
  errorClassOf,
  type InFlightDelivery,
  type Settlement,
  type Tries,
  type WorkerId,
} from '@curfew/domain'
import { journalSettled, withAcceptance } from '../history/journal.ts'
import { plainArray } from '../postgres/arrays.ts'
import { counted, integer, SMALLINT_MAX } from '../postgres/counters.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { isDataFault, type OnDeliveryFault, splitAround } from '../postgres/faults.ts'
import { namedParameters, rowParameters } from '../postgres/parameters.ts'
import { endsAllOf } from '../sessions/order.ts'
import { oweSuccessors } from './successors.ts'
import { giveUpRefused } from './unrecordable.ts'

/** One attempt, or one round that could send nothing, as the ledger keeps it. */
export interface AttemptRecord {
  /** 1 for the first attempt of the delivery. */
  readonly number: number
  readonly startedAt: Date
  readonly durationMs: number
  readonly outcome: AttemptOutcome
  /** Null when no token was minted. */
  readonly jti: string | null
  /** SHA-256 of that token, in hexadecimal. */
  readonly tokenDigest: string | null
}

/** A delivery that a worker has settled: the attempts that it made, and the next state. */
export interface Settled {
  readonly id: DeliveryId
  readonly attempts: readonly AttemptRecord[]
  readonly settlement: Settlement
  /** The delivery as it was leased. `attempts` is part of the fence. `settlement` may replace the other counts. */
  readonly leased: Pick<InFlightDelivery, keyof Tries | 'event' | 'sessionEndsAt'>
}

/** A settled delivery, and the attempts that are written with it. */
interface SettledRow extends Settled {
  /** The attempts that are written: all, or none if PostgreSQL refused a value of them. */
  readonly kept: readonly AttemptRecord[]
}

interface AttemptRow extends AttemptRecord {
  /** The number of its delivery in the batch, from 1. */
  readonly place: number
}

const ONE = namedParameters({ worker: 'uuid', now: 'timestamptz' })
const { $ } = ONE

const SETTLED = rowParameters<SettledRow>(
  {
    id: ['uuid', ({ id }) => id],
    state: ['word', ({ settlement }) => settlement.state],
    attempts: ['int', ({ attempts }) => attempts.length],
    unsent: ['int', ({ attempts }) => attempts.filter(sentNothing).length],
    retries: ['smallint', (row) => integer(triesOf(row).retries, SMALLINT_MAX)],
    refusals: ['smallint', (row) => integer(triesOf(row).refusals, SMALLINT_MAX)],
    due_at: ['timestamptz', ({ settlement }) => (settlement.state === 'pending' ? settlement.dueAt : null)],
    level: ['word', ({ settlement }) => (settlement.state === 'acknowledged' ? settlement.level : null)],
    reason: ['word', ({ settlement }) => (settlement.state === 'dead_lettered' ? settlement.reason : null)],
    attempts_before: ['int', ({ leased }) => integer(leased.attempts)],
    accepted_ms: [
      'bigint',
      ({ leased: { event } }) => (event.lane === 'interactive' ? event.acceptedAt.getTime() : null),
    ],
    first_attempt_at: [
      'timestamptz',
      ({ kept }) => kept.find((attempt) => !sentNothing(attempt))?.startedAt ?? null,
    ],
    status: ['smallint', ({ kept }) => statusOf(kept.at(-1))],
    token_digest: ['word', ({ kept }) => kept.at(-1)?.tokenDigest ?? null],
    lapsed_by: [
      'timestamptz',
      ({ settlement, leased }) => (settlement.state === 'lapsed' ? leased.sessionEndsAt : null),
    ],
  },
  { after: ONE },
)

const ATTEMPTS = rowParameters<AttemptRow>(
  {
    place: ['int', ({ place }) => place],
    number: ['int', ({ number }) => integer(number)],
    started_at: ['timestamptz', ({ startedAt }) => startedAt],
    duration_ms: ['int', ({ durationMs }) => integer(durationMs)],
    outcome: ['word', ({ outcome }) => outcome.kind],
    status: ['smallint', statusOf],
    error_class: ['word', ({ outcome }) => errorClassOf(outcome)],
    error: ['text', ({ outcome }) => withoutNul('error' in outcome ? outcome.error : null)],
    error_description: ['text', ({ outcome }) => withoutNul(description(outcome))],
    location: ['text', ({ outcome }) => withoutNul(locationOf(outcome))],
    jti: ['text', ({ jti }) => jti],
    note: ['text', ({ outcome }) => (outcome.kind === 'acknowledged' ? (outcome.note ?? null) : null)],
  },
  { after: SETTLED },
)

// The delivery lapsed at an expiry of its session that was extended, or taken away, meanwhile: it becomes due at once.
const EXTENDED =
  '(s.lapsed_by is not null and (d.session_ends_at is null or d.session_ends_at > s.lapsed_by))'

// The lease is the fence: a delivery that another worker has claimed or settled since is left as it is. The attempt count is part
// of the fence: if this worker repeats the statement because the answer was lost, and has claimed the delivery again meanwhile,
// the delivery has more attempts. Nearly all deliveries are settled, so the statement returns the ids of the others.
const SETTLE_DELIVERIES = `
  with given as (
    select * from ${SETTLED.placedAs('s')}
  ),
  settled as (
    update deliveries d
       set state = case when ${EXTENDED} then 'pending' else s.state end,
           attempts = ${counted('d.attempts', 's.attempts')}, unsent = ${counted('d.unsent', 's.unsent')}, retries = s.retries, refusals = s.refusals,
           due_at = case when ${EXTENDED} then ${$.now} else s.due_at end,
           settled_at = case when s.state = 'pending' or ${EXTENDED} then null else ${$.now} end,
           level = s.level, dead_letter_reason = s.reason, first_message = null,
           first_attempt_at = case when d.attempts = d.unsent then s.first_attempt_at else d.first_attempt_at end,
           status = case when s.attempts > 0 then s.status else d.status end,
           token_digest = case when s.attempts > 0 then decode(s.token_digest, 'hex') else d.token_digest end
      from given s
     where d.id = s.id and d.state = 'in_flight' and d.leased_by = ${$.worker} and d.attempts = s.attempts_before
    returning d.id, d.binding_id, d.state, d.level, d.generation, s.accepted_ms, s.place
  ),
  journalled as (
    ${journalSettled("(select * from settled where state <> 'pending') as d", $.now, 'd.level')}
  ),
  recorded as (
    insert into attempts (delivery_id, number, started_at, duration_ms, outcome, status, error_class, error,
      error_description, location, jti, note, worker_id)
    select settled.id, a.number, a.started_at, a.duration_ms, a.outcome, a.status, a.error_class, a.error,
      a.error_description, a.location, a.jti, a.note, ${$.worker}
      from ${ATTEMPTS.as('a')}
      join settled using (place)
  )
  select id from given where not exists (select from settled where settled.place = given.place)`

export interface SettleRequest {
  readonly batch: readonly Settled[]
  readonly workerId: WorkerId
  readonly now: Date
}

/**
 * Records a batch of attempts and moves each delivery to its next state, in one statement. Owes the fallbacks of dead letters.
 *
 * If PostgreSQL refuses a value, the batch is split, and its delivery is settled without the records of its attempts. If
 * PostgreSQL refuses even that, the delivery becomes a dead letter, `unrecordable`.
 *
 * @returns the ids that were not settled, mostly none: their lease was lost, or they were settled before. Nothing was recorded
 * for them.
 */
export async function settleDeliveries(
  db: Database,
  { batch, workerId, now }: SettleRequest,
  onFault: OnDeliveryFault = () => undefined,
): Promise<ReadonlySet<DeliveryId>> {
  const lost = new Set<DeliveryId>()
  const refused = await splitAround(batch, async (part) => {
    for (const id of await settleAtOnce(db, { batch: part, workerId, now })) lost.add(id)
  })
  for (const { item, error } of refused) {
    const { id } = item
    try {
      const bare = await settleAtOnce(db, { batch: [item], workerId, now }, { bare: true })
      if (bare.has(id)) lost.add(id)
      else onFault({ doing: 'settle', deliveryId: id, error, became: 'bare' })
    } catch (bareError) {
      if (!isDataFault(bareError)) throw bareError
      const left = await giveUpRefused(db, [{ item: id, error }], { workerId, now, doing: 'settle', onFault })
      for (const one of left) lost.add(one)
    }
  }
  return lost
}

/** `bare`: writes no values of the attempts. States, times and counts are the ledger's own. */
interface Bareness {
  readonly bare?: boolean
}

/** Settles a batch in one statement. Owes the fallbacks of its dead letters in the same transaction. */
async function settleAtOnce(
  db: Database,
  request: SettleRequest,
  how: Bareness = {},
): Promise<ReadonlySet<DeliveryId>> {
  const dead = request.batch.filter(({ settlement }) => settlement.state === 'dead_lettered')
  if (dead.length === 0) return writeSettled(db, request, how)
  return withTransaction(db, async (transaction) => {
    const lost = await writeSettled(transaction, request, how)
    await oweSuccessors(
      transaction,
      dead.map(({ id }) => id),
    )
    return lost
  })
}

async function writeSettled(
  db: Queryable,
  { batch, workerId, now }: SettleRequest,
  { bare = false }: Bareness,
): Promise<ReadonlySet<DeliveryId>> {
  const rows = batch.map((settled) => ({ ...settled, kept: bare ? [] : settled.attempts }))
  const attempts = rows.flatMap(({ kept }, index) =>
    kept.map((attempt) => ({ ...attempt, place: index + 1 })),
  )
  const { rows: left } = await db.query<{ id: DeliveryId }>({
    name: 'settle_deliveries',
    text: SETTLE_DELIVERIES,
    values: [...ONE.values({ worker: workerId, now }), ...SETTLED.values(rows), ...ATTEMPTS.values(attempts)],
  })
  return new Set(left.map(({ id }) => id))
}

function triesOf({ settlement, leased }: Settled): Pick<Tries, 'retries' | 'refusals'> {
  return settlement.state === 'pending' ? settlement : leased
}

function sentNothing({ jti, outcome }: AttemptRecord): boolean {
  return jti === null || outcome.kind === 'undeliverable'
}

function statusOf(attempt: AttemptRecord | undefined): number | null {
  const status = attempt !== undefined && 'status' in attempt.outcome ? attempt.outcome.status : null
  return status === null ? null : integer(status, SMALLINT_MAX)
}

/** A text from outside, as PostgreSQL can store it: without NUL characters. */
function withoutNul(text: string | null): string | null {
  return text?.includes('\0') === true ? text.replaceAll('\0', ' ') : text
}

function locationOf(outcome: AttemptOutcome): string | null {
  return ('location' in outcome ? outcome.location : null) ?? null
}

/** The relying party's error description, or our own if nothing was sent. */
function description(outcome: AttemptOutcome): string | null {
  if (outcome.kind === 'undeliverable') return outcome.detail
  return outcome.kind === 'acknowledged' ? null : outcome.errorDescription
}

const YOUNGEST_FIRST =
  'case when w.sid is null then w.requested_at end desc nulls last, w.planned_at desc, w.id desc'

// Of all deliveries that wait for the same target, the youngest stays. Among those that name the subject, that is the one of the
// latest logout. It supersedes an older one only if it ends all the same sessions (`endsAllOf`): it may be withheld to spare a
// session that the older one has to end. An interactive delivery is superseded by the youngest interactive one only.
const SUPERSEDE_OLDER = `
  with covered as (
    update deliveries d
       set state = 'superseded', due_at = null, settled_at = $2::timestamptz, superseded_by = waiting.youngest,
           first_message = null
      from (
        select w.id, w.sid, w.event_id,
               case w.lane when 'bulk' then first_value(w.id) over alike else first_value(w.id) over in_lane end as youngest,
               case w.lane when 'bulk' then first_value(w.event_id) over alike else first_value(w.event_id) over in_lane end as latest
          from (select distinct binding_id, target from deliveries
                 where id = any($1::uuid[]) and due_at is not null and target is not null) given
          cross join lateral (
            select d.id, d.binding_id, d.target, d.planned_at, d.sid, d.event_id, d.lane, e.requested_at, e.email is null as nameless
              from deliveries d
             cross join lateral (select requested_at, email from events where id = d.event_id offset 0) e
             where d.binding_id = given.binding_id and d.target = given.target and d.due_at is not null
            offset 0
          ) w
        window alike as (partition by w.binding_id, w.target, w.nameless order by ${YOUNGEST_FIRST}),
               in_lane as (partition by w.binding_id, w.target, w.nameless, w.lane order by ${YOUNGEST_FIRST})
      ) waiting
     where d.id = waiting.id and waiting.id <> waiting.youngest and d.due_at is not null
       and (waiting.sid is not null or exists (
         select from events older, events newer
          where older.id = waiting.event_id and newer.id = waiting.latest and ${endsAllOf('newer', 'older')}))
    returning d.id, d.event_id, d.binding_id, d.state, d.generation
  ),
  journalled as (
    ${journalSettled(withAcceptance('covered'), '$2')}
  )
  select count(*) as covered from covered`

/**
 * Supersedes all but the youngest of the deliveries that wait for the same target as one of `ids`. They were being attempted when
 * the youngest was planned; otherwise planning would have superseded them. A bulk delivery supersedes no interactive one.
 *
 * @returns the number of superseded deliveries.
 */
export async function supersedeOlder(
  db: Database,
  { ids, now }: { ids: readonly DeliveryId[]; now: Date },
  onFault: OnDeliveryFault = () => undefined,
): Promise<number> {
  let covered = 0
  const refused = await splitAround(ids, async (part) => {
    const { rows } = await db.query<{ covered: number }>({
      name: 'supersede_older',
      text: SUPERSEDE_OLDER,
      values: [plainArray(part), now],
    })
    covered += rows[0]?.covered ?? 0
  })
  // They keep waiting: a relying party may be notified twice.
  for (const { item, error } of refused)
    onFault({ doing: 'supersede', deliveryId: item, error, became: 'left' })
  return covered
}

// Skips refused deliveries: only a delivery whose failures were all `unavailable` has waited for the endpoint to recover. Due now
// at the latest: PostgreSQL's clock may have been set back since the delivery was planned.
const BRING_FORWARD = `
  update deliveries set due_at = least(planned_at, $2)
   where binding_id = $1 and lane in ('interactive', 'bulk') and due_at > $2 and retries > 0 and refusals = 0`

/** Makes due the deliveries that wait to retry at an endpoint which is available again. @returns their number. */
export async function bringForward(
  db: Database,
  { bindingId, now }: { bindingId: BindingId; now: Date },
): Promise<number> {
  const { rowCount } = await db.query({
    name: 'bring_forward',
    text: BRING_FORWARD,
    values: [bindingId, now],
  })
  return rowCount ?? 0
}

// A delivery is due since its event was accepted, but no worker could attempt it before it was planned: both times must be old.
const GIVE_UP = `
  with given_up as (
    update deliveries d
       set state = 'dead_lettered', due_at = null, settled_at = $3::timestamptz, dead_letter_reason = 'unreachable',
           first_message = null
     where d.id = any (array(
       select found.id
         from unnest($1::bigint[], $2::timestamptz[]) as given(binding_id, due_before)
         cross join (values ('interactive'), ('bulk')) as lanes(lane)
         cross join lateral (
           select w.id from deliveries w
            where w.binding_id = given.binding_id and w.lane = lanes.lane and w.due_at < given.due_before
              and w.planned_at < given.due_before
            order by w.due_at limit $4
              for update skip locked
         ) found))
    returning d.id, d.event_id, d.binding_id, d.state, d.generation
  ),
  journalled as (
    ${journalSettled(withAcceptance('given_up'), '$3')}
  )
  select id from given_up`

/**
 * Gives up on deliveries that have been due for too long without an attempt, because their endpoint was known to be unavailable.
 *
 * @param dueBefore for each binding: deliveries that were due before this time are given up on.
 * @param limit most deliveries for each binding and lane.
 * @returns the number of deliveries given up on.
 */
export async function giveUpUnreachable(
  db: Database,
  { dueBefore, now, limit }: { dueBefore: ReadonlyMap<BindingId, Date>; now: Date; limit: number },
): Promise<number> {
  let givenUp = 0
  const refused = await splitAround([...dueBefore], async (part) => {
    givenUp += await withTransaction(db, async (transaction) => {
      const { rows } = await transaction.query<{ id: DeliveryId }>({
        name: 'give_up_unreachable',
        text: GIVE_UP,
        values: [
          plainArray(part.map(([id]) => id)),
          plainArray(part.map(([, before]) => before)),
          now,
          limit,
        ],
      })
      await oweSuccessors(
        transaction,
        rows.map(({ id }) => id),
      )
      return rows.length
    })
  })
  const [first] = refused
  // PostgreSQL refuses to update a delivery of one binding. The other bindings are done.
  if (first !== undefined) throw first.error
  return givenUp
}
