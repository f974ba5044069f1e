import {
  type BindingId,
  type DeliveryId,
  type EventId,
  eventKeyOf,
  type Level,
  type SettledState,
} from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import { type Database, isUnavailable, type Queryable, withTransaction } from '../postgres/database.ts'
import { isDataFault, isStatementTimeout } from '../postgres/faults.ts'
import { tryLock } from '../postgres/locks.ts'
import { namedParameters } from '../postgres/parameters.ts'
import { clampedTime } from '../postgres/times.ts'

/** The events and deliveries that one statement planned, or the deliveries that it settled, as they were at its commit. */
export type JournalEntry =
  | {
      readonly kind: 'planned'
      readonly at: Date
      /** Events that the ledger did not have before. Some may owe no delivery. */
      readonly eventIds: readonly EventId[]
      /** The deliveries that the statement planned. */
      readonly owed: readonly JournalDelivery[]
    }
  | { readonly kind: 'settled'; readonly at: Date; readonly settled: readonly SettledDelivery[] }

export interface JournalDelivery {
  readonly id: DeliveryId
  readonly bindingId: BindingId
  /** When its event was accepted, in milliseconds since 1970; null in the bulk lane, which has no SLA. */
  readonly acceptedMs: number | null
}

export interface SettledDelivery extends JournalDelivery {
  readonly state: SettledState
  /** Level of the acknowledgement; null without one. */
  readonly level: Level | null
  /** How often it had been replayed before: 0 if it was settled for the first time. It may have been replayed again since. */
  readonly generation: number
}

const COLUMNS = 'kind, at, event_ids, delivery_ids, binding_ids, accepted_ms, states, levels, generations'

/** SQL: `accepted_ms` of an event `e`. */
export const ACCEPTED_MS = `case e.lane when 'interactive' then (extract(epoch from ${clampedTime('e.accepted_at')}) * 1000)::bigint end as accepted_ms`

/** SQL: deliveries as `d`, with the acceptance time of their events. `offset 0` keeps this a lookup for each delivery. */
export function withAcceptance(deliveries: string): string {
  return `(select d.*, e.accepted_ms from ${deliveries} d
    left join lateral (select ${ACCEPTED_MS} from events e where e.id = d.event_id offset 0) e on true) d`
}

const NO_DELIVERIES =
  '(select null::uuid as id, null::bigint as binding_id, null::bigint as accepted_ms where false) d'

/**
 * SQL that enters planned events and deliveries into the journal: one row, or none.
 *
 * @param eventIds an array, or null.
 * @param from deliveries as `d`: id, binding_id, accepted_ms. Default: none.
 */
export function journalPlanned({
  at,
  eventIds,
  from = NO_DELIVERIES,
}: {
  at: string
  eventIds: string
  from?: string
}): string {
  return `insert into journal (${COLUMNS})
    select 'planned', ${at}::timestamptz, coalesce(${eventIds}, '{}'), coalesce(array_agg(d.id), '{}'),
           coalesce(array_agg(d.binding_id), '{}'), coalesce(array_agg(d.accepted_ms), '{}'), '{}', '{}', '{}'
      from ${from} having count(*) > 0 or ${eventIds} is not null`
}

/**
 * SQL that enters settled deliveries into the journal: one row, or none.
 *
 * @param from deliveries as `d`: id, binding_id, accepted_ms, state, generation.
 * @param level SQL: the level of `d`. Default: null, for deliveries that are not acknowledged.
 */
export function journalSettled(from: string, at: string, level = 'null::text'): string {
  return `insert into journal (${COLUMNS})
    select 'settled', ${at}::timestamptz, '{}', array_agg(d.id), array_agg(d.binding_id), array_agg(d.accepted_ms),
           array_agg(d.state), array_agg(${level}), array_agg(d.generation)
      from ${from} having count(*) > 0`
}

/** Applies entries to a projection, in the transaction that deletes them from the journal: exactly once, or not at all. */
export type Projector = (transaction: Queryable, entries: readonly JournalEntry[]) => Promise<void>

interface JournalRow {
  readonly id: number
  readonly kind: 'planned' | 'settled'
  readonly at: Date
  /** Lists are texts separated by commas: thousands of elements are read several times as fast as from an array. */
  readonly eventIds: string
  readonly deliveryIds: string
  readonly bindingIds: string
  readonly acceptedMs: string
  readonly states: string
  readonly levels: string
  readonly generations: string
}

// An entry with a lower id may be committed later. It is found then, because each entry is deleted by its id.
const ENTRY = `id, kind, at, array_to_string(event_ids, ',') as "eventIds", array_to_string(delivery_ids, ',') as "deliveryIds",
  array_to_string(binding_ids, ',') as "bindingIds", array_to_string(accepted_ms, ',', '') as "acceptedMs",
  array_to_string(states, ',') as states, array_to_string(levels, ',', '') as levels, array_to_string(generations, ',') as generations`
// Takes the first entry, and the next ones up to a number of deliveries: an entry may have one delivery, or ten thousand.
const TAKE_ENTRIES = `
  select ${ENTRY} from (
    select *, sum(cardinality(delivery_ids)) over (order by id) - cardinality(delivery_ids) as before
      from (select * from journal order by id limit $1) oldest
  ) counted
   where before < $2 order by id`
/** About how many deliveries are projected at once. The process does nothing else meanwhile. */
const DELIVERIES_AT_ONCE = 8_000

const STRIKE_ENTRIES = 'delete from journal where id = any($1::bigint[])'

const LEAVE_ENTRIES = `
  insert into journal_left (projector, id, kind, at, event_ids, delivery_ids, binding_ids, accepted_ms, states, levels, generations)
  select p.name, j.id, j.kind, j.at, j.event_ids, j.delivery_ids, j.binding_ids, j.accepted_ms, j.states, j.levels, j.generations
    from journal j cross join unnest($2::text[]) as p(name) where j.id = any($1::bigint[])`

/** Called for a projector that failed. */
export type OnProjectorFailed = (name: string, error: unknown) => void

/**
 * Passes the oldest entries of the journal to every projector, and deletes them. Runs in one transaction, and in one bookkeeper
 * at a time.
 *
 * @param limit most entries. Each is a whole batch of plans or settlements.
 * @param names the names of projectors that must not block the others: entries that one of them fails at are left for
 * `projectLeft`. If a projector without a name fails, the call fails.
 * @returns the number of entries; null if another bookkeeper is projecting.
 */
export async function projectJournal(
  db: Database,
  {
    limit,
    projectors,
    names = new Map(),
    onFailed,
  }: {
    limit: number
    projectors: readonly Projector[]
    names?: ReadonlyMap<Projector, string>
    onFailed?: OnProjectorFailed
  },
): Promise<number | null> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'journal'))) return null
    const { rows } = await transaction.query<JournalRow>({
      name: 'take_entries',
      text: TAKE_ENTRIES,
      values: [limit, DELIVERIES_AT_ONCE],
    })
    if (rows.length === 0) return 0
    const entries = rows.map(toEntry)
    const left: string[] = []
    for (const project of projectors) {
      const name = names.get(project)
      if (name === undefined) {
        await project(transaction, entries)
        continue
      }
      const failure = await failureOf(transaction, () => project(transaction, entries))
      if (failure === null) continue
      onFailed?.(name, failure.error)
      left.push(name)
    }
    const ids = plainArray(rows.map(({ id }) => id))
    if (left.length > 0) {
      await transaction.query({ name: 'leave_entries', text: LEAVE_ENTRIES, values: [ids, left] })
    }
    await transaction.query({ name: 'strike_entries', text: STRIKE_ENTRIES, values: [ids] })
    return rows.length
  })
}

const TAKE_LEFT = `
  select ${ENTRY} from journal_left where projector = $1 order by failed_at, id limit $2`
const STRIKE_LEFT = 'delete from journal_left where projector = $1 and id = any($2::bigint[])'
const PUT_BACK =
  'update journal_left set failed_at = clock_timestamp() where projector = $1 and id = any($2::bigint[])'

const HALF = namedParameters({
  projector: 'text',
  kind: 'text',
  at: 'timestamptz',
  event_ids: 'uuid[]',
  delivery_ids: 'uuid[]',
  binding_ids: 'bigint[]',
  accepted_ms: 'bigint[]',
  states: 'text[]',
  levels: 'text[]',
  generations: 'int[]',
})
// A new id from the journal's own sequence: a half is an entry like any other.
const LEAVE_HALF = `
  insert into journal_left (id, ${HALF.names}) values (nextval(pg_get_serial_sequence('journal', 'id')), ${HALF.list})`

/** Replaces an entry by two halves. @returns false if the entry has one delivery or event, and cannot be halved. */
async function splitLeft(transaction: Queryable, name: string, row: JournalRow): Promise<boolean> {
  const halves = halvesOf(toEntry(row))
  if (halves === null) return false
  for (const half of halves) {
    const deliveries = half.kind === 'planned' ? half.owed : half.settled
    const settled = half.kind === 'settled' ? half.settled : []
    const values = HALF.values({
      projector: name,
      kind: row.kind,
      at: row.at,
      event_ids: plainArray(half.kind === 'planned' ? half.eventIds : []),
      delivery_ids: plainArray(deliveries.map(({ id }) => id)),
      binding_ids: plainArray(deliveries.map(({ bindingId }) => bindingId)),
      accepted_ms: plainArray(deliveries.map(({ acceptedMs }) => acceptedMs)),
      states: plainArray(settled.map(({ state }) => state)),
      levels: plainArray(settled.map(({ level }) => level)),
      generations: plainArray(settled.map(({ generation }) => generation)),
    })
    await transaction.query({ text: LEAVE_HALF, values })
  }
  await transaction.query({
    name: 'strike_left',
    text: STRIKE_LEFT,
    values: [name, plainArray([row.id])],
  })
  return true
}

/**
 * Halves an entry: by its deliveries, or by its events with the deliveries that these owe. Null if there is only one.
 */
function halvesOf(entry: JournalEntry): readonly [JournalEntry, JournalEntry] | null {
  if (entry.kind === 'settled') {
    const half = Math.ceil(entry.settled.length / 2)
    if (half === entry.settled.length) return null
    const of = (settled: readonly SettledDelivery[]) => ({ ...entry, settled })
    return [of(entry.settled.slice(0, half)), of(entry.settled.slice(half))]
  }
  const { eventIds, owed } = entry
  const half = Math.ceil(eventIds.length / 2)
  if (half < eventIds.length) {
    const first = new Set(eventIds.slice(0, half).map(eventKeyOf))
    const isFirst = ({ id }: JournalDelivery) => first.has(eventKeyOf(id))
    return [
      { ...entry, eventIds: eventIds.slice(0, half), owed: owed.filter(isFirst) },
      { ...entry, eventIds: eventIds.slice(half), owed: owed.filter((one) => !isFirst(one)) },
    ]
  }
  const middle = Math.ceil(owed.length / 2)
  if (middle === owed.length) return null
  return [
    { ...entry, owed: owed.slice(0, middle) },
    { ...entry, eventIds: [], owed: owed.slice(middle) },
  ]
}

/**
 * Passes to a projector the entries that it failed at before, as `projectJournal` does. A single entry that fails again moves
 * behind the others. If the value of one delivery may be at fault, the entry is split instead, so that the rest of it is
 * projected.
 *
 * @param limit most entries. If several fail together, try one: the others may be good.
 * @returns the number of entries, whether they were projected, and whether the single entry was split; null if another bookkeeper
 * is projecting.
 */
export async function projectLeft(
  db: Database,
  {
    name,
    projector,
    limit,
    onFailed,
  }: { name: string; projector: Projector; limit: number; onFailed: OnProjectorFailed },
): Promise<{ readonly entries: number; readonly projected: boolean; readonly split: boolean } | null> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'journal'))) return null
    const { rows } = await transaction.query<JournalRow>({
      name: 'take_left',
      text: TAKE_LEFT,
      values: [name, limit],
    })
    const entries = rows.length
    if (entries === 0) return { entries, projected: true, split: false }
    const failure = await failureOf(transaction, () => projector(transaction, rows.map(toEntry)))
    const values = [name, plainArray(rows.map(({ id }) => id))]
    if (failure === null) {
      await transaction.query({ name: 'strike_left', text: STRIKE_LEFT, values })
      return { entries, projected: true, split: false }
    }
    onFailed(name, failure.error)
    const [only, ...others] = rows
    if (only === undefined || others.length > 0) return { entries, projected: false, split: false }
    const split = isOfValue(failure.error) && (await splitLeft(transaction, name, only))
    if (!split) await transaction.query({ name: 'put_left_back', text: PUT_BACK, values })
    return { entries, projected: false, split }
  })
}

/** Whether one value may be at fault: PostgreSQL refused it, or the projector could not calculate with it. */
function isOfValue(error: unknown): boolean {
  return isDataFault(error) || error instanceof RangeError || error instanceof TypeError
}

/** Runs `work`, undoes it if it fails, and returns the failure; null if it succeeds. @throws an error of a lost connection. */
async function failureOf(
  transaction: Queryable,
  work: () => Promise<void>,
): Promise<{ readonly error: unknown } | null> {
  await transaction.query('savepoint projecting')
  try {
    await work()
    await transaction.query('release savepoint projecting')
    return null
  } catch (error) {
    if (isUnavailable(error) && !isStatementTimeout(error)) throw error
    await transaction.query('rollback to savepoint projecting')
    return { error }
  }
}

function toEntry({ kind, at, ...row }: JournalRow): JournalEntry {
  const ids = split<DeliveryId>(row.deliveryIds)
  // Each list has one element for each delivery: the schema enforces it.
  const [bindingIds, accepted] = [split(row.bindingIds), row.acceptedMs.split(',')]
  const bindingOf = (index: number) => Number(bindingIds[index]) as BindingId
  const acceptedOf = (index: number) => (accepted[index] ? Number(accepted[index]) : null)
  if (kind === 'planned') {
    const owed = ids.map((id, index) => ({ id, bindingId: bindingOf(index), acceptedMs: acceptedOf(index) }))
    return { kind, at, eventIds: split<EventId>(row.eventIds), owed }
  }
  const [states, levels] = [split<SettledState>(row.states), row.levels.split(',') as (Level | '')[]]
  const generations = split(row.generations)
  const settled = ids.map((id, index) => ({
    id,
    bindingId: bindingOf(index),
    acceptedMs: acceptedOf(index),
    state: states[index] as SettledState,
    level: levels[index] || null,
    generation: Number(generations[index]),
  }))
  return { kind, at, settled }
}

function split<Item extends string>(list: string): readonly Item[] {
  return list === '' ? [] : (list.split(',') as Item[])
}
