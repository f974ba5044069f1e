import type { DeadLetterRecord, DeliveryId } from '@curfew/domain'
import { mergedNotifications, NAMED_MAX } from '../notify/merged.ts'
import { plainArray } from '../postgres/arrays.ts'
import { type Database, withTransaction } from '../postgres/database.ts'
import { isDataFault, type OnDeliveryFault, splitAround } from '../postgres/faults.ts'
import { tryLock } from '../postgres/locks.ts'
import { namedParameters } from '../postgres/parameters.ts'
import { clampedTime, microsOf } from '../postgres/times.ts'
import {
  bindingsSql,
  filteredBindings,
  WALK_PARAMETERS,
  type WalkedPage,
  walk,
  walkParts,
  walkSql,
} from '../postgres/walk.ts'
import { type DeadLetterFilter, filterParameters, HAS_LAPSED } from './dead-letter-filter.ts'

/** Position of a dead letter in the list: microseconds since 1970, because a Date is less precise than PostgreSQL, and its id. */
export interface DeadLetterPosition {
  readonly micros: number
  readonly id: string
}

const CONFINED = namedParameters({ issuer: 'text', clientIds: 'text[]', channel: 'text' })
const ALONE = filterParameters(CONFINED)

/** The parameters of a filter, and its condition on a delivery `d`. */
export const FILTER = {
  last: ALONE.last,
  values: (filter: DeadLetterFilter) => [...CONFINED.values({ ...filter }), ...ALONE.values(filter)],
  matches: `${ALONE.died('d')} and ${ALONE.matches('d')}
     and (coalesce(${CONFINED.$.issuer}, ${CONFINED.$.channel}) is null and ${CONFINED.$.clientIds} is null
       or d.binding_id = any(array(${bindingsSql(CONFINED.$)})))`,
}

// The number identifies the last attempt. Its time is a condition as well, so that only partitions that may have it are read.
const DEAD_LETTER = `
  select d.id, d.event_id as "eventId", (select e.given_id from events e where e.id = d.event_id) as "givenEventId", d.binding_id as "bindingId", p.issuer, p.client_id as "clientId",
         p.client_name as "clientName", b.kind as channel, b.endpoint, b.uri, b.settings, d.sid, d.lane, d.dead_letter_reason as reason,
         d.attempts - d.unsent as "attemptCount", d.generation, d.replay_id as "replayId", d.planned_at as "plannedAt",
         d.dead_lettered_at as "deadLetteredAt", d.session_ends_at as "sessionEndsAt", ${HAS_LAPSED} as lapsed,
         ${microsOf('d.dead_lettered_at')} as micros,
         a.started_at as "startedAt", a.outcome, a.status, a.error_class as "errorClass", a.error,
         a.error_description as "errorDescription", a.location, a.jti
    from deliveries d
    join bindings b on b.id = d.binding_id
    join relying_parties p on p.id = b.relying_party_id
    left join lateral (
      select * from attempts
       where delivery_id = d.id and number = d.attempts
         and started_at between ${clampedTime('d.planned_at')} - interval '1 day' and ${clampedTime('d.dead_lettered_at')} + interval '1 day'
       limit 1
    ) a on true`

const LISTED = filterParameters(WALK_PARAMETERS)
const BEFORE = namedParameters({ from: 'timestamptz', micros: 'bigint', id: 'uuid' }, { after: LISTED })

const listOf = (byParts: boolean) => ({
  name: byParts ? 'list_dead_letters_of_bindings' : 'list_dead_letters',
  text: walkSql({
    table: 'deliveries',
    key: ['dead_lettered_at', 'id'],
    order: 'desc',
    byParts,
    where: `${LISTED.died('t')}
      and (t.dead_lettered_at, t.id) < (${BEFORE.$.from} + ${BEFORE.$.micros} * interval '1 microsecond', ${BEFORE.$.id})
      ${byParts ? 'and t.binding_id = part.id' : ''}`,
    columns: ['binding_id', 'dead_letter_reason', 'erased_at'],
    filter: `${LISTED.matches('w')} ${byParts ? '' : 'and ($1::bigint[] is null or w.binding_id = any($1))'}`,
    returned: `w.id, ${microsOf('w.dead_lettered_at')} as micros`,
  }),
})
const LIST_DEAD_LETTERS = listOf(false)
const STATEMENTS = { whole: LIST_DEAD_LETTERS, apart: listOf(true) }
const DEAD_LETTERS = `${DEAD_LETTER}
   where d.id = any($1::uuid[]) and d.dead_lettered_at is not null and d.erased_at is null
   order by d.dead_lettered_at desc, d.id desc`

type DeadLetterRow = Omit<DeadLetterRecord, 'lastAttempt'> & {
  readonly micros: number
  readonly startedAt: Date | null
} & Omit<NonNullable<DeadLetterRecord['lastAttempt']>, 'startedAt'>

const latestFirst = (a: DeadLetterPosition, b: DeadLetterPosition) =>
  b.micros - a.micros || (a.id === b.id ? 0 : a.id > b.id ? -1 : 1)

/**
 * Lists the dead letters that match, the latest first, each with its position. If a filter matches few rows, a page ends after a
 * fixed number of rows that were read, and `reached` is where the next page begins.
 */
export async function listDeadLetters(
  db: Database,
  { filter, before, limit }: { filter: DeadLetterFilter; before: DeadLetterPosition | null; limit: number },
): Promise<WalkedPage<DeadLetterRecord & { readonly position: DeadLetterPosition }, DeadLetterPosition>> {
  const bindings = await filteredBindings(db, filter)
  if (bindings?.length === 0) return { rows: [], reached: null }
  const behind =
    before === null ? { from: 'infinity', micros: 0, id: FIRST_ID } : { from: 'epoch', ...before }
  const values = [...LISTED.values(filter), ...BEFORE.values(behind)]
  const { keys, reached } =
    bindings === null
      ? await walk<DeadLetterPosition>(db, LIST_DEAD_LETTERS, { parts: null, limit, values })
      : await walkParts(db, STATEMENTS, { parts: bindings, limit, values, compare: latestFirst })
  const ids = plainArray(keys.map(({ id }) => id))
  const { rows } = await db.query<DeadLetterRow>({
    name: 'dead_letters_by_id',
    text: DEAD_LETTERS,
    values: [ids],
  })
  return { rows: rows.map(toRecord), reached }
}

const FIRST_ID = '00000000-0000-0000-0000-000000000000'

const FIND_DEAD_LETTER = `${DEAD_LETTER} where d.id = $1 and d.dead_lettered_at is not null and d.erased_at is null`

/** Finds a dead letter; null if there is none with this id. It may have been replayed or erased. */
export async function findDeadLetter(db: Database, id: string): Promise<DeadLetterRecord | null> {
  const { rows } = await db.query<DeadLetterRow>({
    name: 'find_dead_letter',
    text: FIND_DEAD_LETTER,
    values: [id],
  })
  return rows[0] === undefined ? null : toRecord(rows[0])
}

const UNANNOUNCED = `${DEAD_LETTER}
   where d.dead_lettered_at is not null and d.announced_at is null
   order by d.dead_lettered_at limit $1`

// Used to find the dead letter that makes an announcement fail.
const UNANNOUNCED_IDS = `
  select id from deliveries
   where dead_lettered_at is not null and announced_at is null
   order by dead_lettered_at limit $1`
const UNANNOUNCED_NAMED = `${DEAD_LETTER}
   where d.id = any($1::uuid[]) and d.dead_lettered_at is not null and d.announced_at is null
   order by d.dead_lettered_at`
const PASS_OVER = 'update deliveries set announced_at = now() where id = $1 and announced_at is null'

// The generation must match: a dead letter that was replayed meanwhile and died again has not been announced.
const MARK_ANNOUNCED = `
  with marked as (
    update deliveries d set announced_at = now()
      from unnest($1::uuid[], $2::int[]) as announced(id, generation)
     where d.id = announced.id and d.generation = announced.generation and d.dead_lettered_at is not null
    returning d.id, d.binding_id, d.dead_letter_reason as reason, d.dead_lettered_at as at
  ),
  fresh as (
    select p.issuer, g.binding_id, g.count, g.oldest, g.newest, g.named,
           jsonb_build_object('issuer', p.issuer, 'client_id', p.client_id, 'channel', b.kind, 'endpoint', b.endpoint, 'reason', g.reason) as members
      from (
        select binding_id, reason, count(*) as count, min(at) as oldest, max(at) as newest,
               (array_agg(id::text order by at, id))[1:${NAMED_MAX}] as named
          from marked group by binding_id, reason
      ) g
      join bindings b on b.id = g.binding_id
      join relying_parties p on p.id = b.relying_party_id
  ),
  ${mergedNotifications({ type: 'delivery.dead_lettered', list: 'delivery_ids', windowMs: '$3' })}
  select from marked limit 0`

/**
 * Passes the oldest unannounced dead letters to `publish`, marks them as announced, and writes a notification of them. After a
 * failure in between, the next call passes them again. A concurrent call does nothing.
 *
 * If PostgreSQL refuses a value, the dead letter that has it is skipped: it stays in the list, but operators are not notified.
 *
 * @param windowMs how long a notification waits for more dead letters of its kind before it is sent.
 * @returns the number of dead letters announced.
 */
export async function announceDeadLetters(
  db: Database,
  { limit, windowMs, publish, onFault = () => undefined }: AnnounceRequest,
): Promise<number> {
  try {
    return await announce(db, { text: UNANNOUNCED, which: limit, windowMs, publish })
  } catch (error) {
    if (!isDataFault(error)) throw error
  }
  const { rows } = await db.query<{ id: DeliveryId }>(UNANNOUNCED_IDS, [limit])
  let announced = 0
  const refused = await splitAround(
    rows.map(({ id }) => id),
    async (ids) => {
      announced += await announce(db, { text: UNANNOUNCED_NAMED, which: plainArray(ids), windowMs, publish })
    },
  )
  for (const { item, error } of refused) {
    // PostgreSQL may refuse this, too. Then the dead letter is tried again at the next call. It never blocks the others.
    const passed = await splitAround([item], async () => void (await db.query(PASS_OVER, [item])))
    onFault({ doing: 'announce', deliveryId: item, error, became: passed.length === 0 ? 'bare' : 'left' })
  }
  return announced
}

interface AnnounceRequest {
  readonly limit: number
  readonly windowMs: number
  readonly publish: (records: readonly DeadLetterRecord[]) => Promise<void>
  readonly onFault?: OnDeliveryFault
}

async function announce(
  db: Database,
  {
    text,
    which,
    windowMs,
    publish,
  }: Pick<AnnounceRequest, 'windowMs' | 'publish'> & { text: string; which: number | string },
): Promise<number> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'announcing'))) return 0
    const { rows } = await transaction.query<DeadLetterRow>({
      text,
      values: [which],
    })
    if (rows.length === 0) return 0
    await publish(rows.map(toRecord))
    await transaction.query({
      name: 'mark_announced',
      text: MARK_ANNOUNCED,
      values: [rows.map(({ id }) => id), rows.map(({ generation }) => generation), windowMs],
    })
    return rows.length
  })
}

function toRecord(row: DeadLetterRow): DeadLetterRecord & { readonly position: DeadLetterPosition } {
  const {
    startedAt,
    outcome,
    status,
    errorClass,
    error,
    errorDescription,
    location,
    jti,
    micros,
    ...record
  } = row
  const lastAttempt =
    startedAt === null
      ? null
      : { startedAt, outcome, status, errorClass, error, errorDescription, location, jti }
  return { ...record, lastAttempt, position: { micros, id: record.id } }
}

/** The number of dead letters of one relying party and reason. */
export interface DeadLetterGroup {
  readonly issuer: string
  readonly clientId: string
  readonly clientName: string | null
  readonly reason: string
  readonly count: number
  /** Number of those whose session has expired. */
  readonly lapsed: number
  readonly oldest: Date
  readonly newest: Date
}

const SUMMARIZE = `
  select p.issuer, p.client_id as "clientId", p.client_name as "clientName", g.reason,
         g.count, g.lapsed, g.oldest, g.newest
    from (
      select d.binding_id, d.dead_letter_reason as reason, count(*) as count,
             count(*) filter (where ${HAS_LAPSED}) as lapsed,
             min(d.dead_lettered_at) as oldest, max(d.dead_lettered_at) as newest
        from deliveries d
       where ${FILTER.matches}
       group by d.binding_id, d.dead_letter_reason
    ) g
    join bindings b on b.id = g.binding_id
    join relying_parties p on p.id = b.relying_party_id
   order by g.count desc, p.issuer, p.client_id, g.reason`

/** Counts the dead letters that match by relying party and reason, the largest group first. */
export async function summarizeDeadLetters(
  db: Database,
  filter: DeadLetterFilter,
): Promise<readonly DeadLetterGroup[]> {
  const { rows } = await db.query<DeadLetterGroup>({ text: SUMMARIZE, values: FILTER.values(filter) })
  return rows
}
