import { hash } from 'node:crypto'
import { givenIdRange, type SettledEvent } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Database, Queryable } from '../postgres/database.ts'
import { namedParameters, rowParameters } from '../postgres/parameters.ts'
import type { Unreceipted } from './facts.ts'
import { appendToLog, type ReceiptLog } from './log.ts'

/** A receipt on its way into the ledger. */
export interface NewReceipt extends Pick<Unreceipted, 'revision' | 'settledAt'> {
  readonly event: Pick<SettledEvent, 'id' | 'givenId' | 'plannedAt'>
  /** The claims, to the byte. */
  readonly payload: string
  /** By which it is found when its subject is to be forgotten, though the event is no more. */
  readonly subjectTag: string
}

/**
 * Stands between payloads, for an array of texts with so many quotes is costly to write and to read. There is none in any of
 * them: JSON writes it as an escape.
 */
const SEPARATOR = '\u001f'

const ONE = namedParameters({ log_size: 'bigint', payloads: 'text', separator: 'text' })
const { $ } = ONE
const RECEIPTS = rowParameters<NewReceipt>(
  {
    event_id: ['uuid', ({ event }) => event.id],
    revision: ['int', ({ revision }) => revision],
    planned_at: ['timestamptz', ({ event }) => event.plannedAt],
    settled_at: ['timestamptz', ({ settledAt }) => settledAt],
    subject_tag: ['uuid', ({ subjectTag }) => subjectTag],
    given_id: ['uuid', ({ event }) => event.givenId],
  },
  { after: ONE },
)

const INSERT_RECEIPTS = `
  insert into receipts (event_id, revision, planned_at, log_index, settled_at, payload, subject_tag, given_id)
  select event_id, revision, planned_at, ${$.log_size} + place - 1, settled_at, payload, subject_tag, given_id
    from rows from (${RECEIPTS.unnest}, string_to_table(${$.payloads}, ${$.separator})) with ordinality
           as r(${RECEIPTS.names}, payload, place)`

/** Stores receipts, and appends the digest of each to the log, which the transaction has locked, from its size on. */
export async function insertReceipts(
  transaction: Queryable,
  log: Pick<ReceiptLog, 'size' | 'root'>,
  receipts: readonly NewReceipt[],
): Promise<void> {
  if (receipts.length === 0) return
  await transaction.query({
    name: 'insert_receipts',
    text: INSERT_RECEIPTS,
    values: [
      ...ONE.values({
        log_size: log.size,
        payloads: receipts.map(({ payload }) => payload).join(SEPARATOR),
        separator: SEPARATOR,
      }),
      ...RECEIPTS.values(receipts),
    ],
  })
  await appendToLog(
    transaction,
    log,
    receipts.map(({ payload }) => hash('sha256', payload, 'buffer')),
  )
}

/** A receipt as it is stored. */
export interface StoredReceipt {
  readonly eventId: string
  /** The id that its issuer gave the event. */
  readonly givenId: string
  readonly revision: number
  readonly logIndex: number
  readonly plannedAt: Date
  readonly settledAt: Date
  /** Null: erased. */
  readonly payload: string | null
}

const RECEIPT_COLUMNS = `event_id as "eventId", given_id as "givenId", revision, log_index as "logIndex", planned_at as "plannedAt", settled_at as "settledAt", payload`
// By place and not by revision: an id that was forgotten may have been posted again, and then begins anew.
const FIND_RECEIPT = `
  select ${RECEIPT_COLUMNS} from receipts
   where event_id = $1 and ($2::bigint is null or log_index = $2) order by log_index desc limit 1`
const LIST_RECEIPTS = `
  select ${RECEIPT_COLUMNS} from receipts where log_index >= $1 and log_index < $2 order by log_index`

/** The receipt of an event: the latest, or the one at a place in the log. Null where there is none, or none any more. */
export async function findReceipt(
  db: Queryable,
  { eventId, logIndex }: { eventId: string; logIndex: number | null },
): Promise<StoredReceipt | null> {
  const { rows } = await db.query<StoredReceipt>({ text: FIND_RECEIPT, values: [eventId, logIndex] })
  return rows[0] ?? null
}

const RECEIPTS_OF_GIVEN_ID = `
  select distinct on (event_id) ${RECEIPT_COLUMNS} from receipts
   where event_id between $2 and $3 and given_id = $1 order by event_id, log_index desc`

/** The latest receipt of each event that any issuer gave this id, be the event kept or not. */
export async function findReceiptsOfGivenId(
  db: Queryable,
  givenId: string,
): Promise<readonly StoredReceipt[]> {
  const values = [givenId, ...givenIdRange(givenId)]
  return (await db.query<StoredReceipt>({ text: RECEIPTS_OF_GIVEN_ID, values })).rows
}

// The entry of what was settled last, or of what was planned and owes nothing.
const AWAITED = `
  select exists (select from journal where date_trunc('milliseconds', at) <= $1)
      or exists (select from journal_left where projector = 'receipts' and date_trunc('milliseconds', at) <= $1) as awaited`

/** Whether the receipt of what was settled then may be issued yet. Else it was: whoever asked for it before this, asks again. */
export async function isReceiptAwaited(db: Database, settledAt: Date): Promise<boolean> {
  const { rows } = await db.query<{ awaited: boolean }>({
    name: 'receipt_awaited',
    text: AWAITED,
    values: [settledAt],
  })
  return rows[0]?.awaited === true
}

/** Receipts by their place in the log, from `from` up to but without `to`, as far as they are kept. */
export async function listReceipts(
  db: Queryable,
  { from, to }: { from: number; to: number },
): Promise<readonly StoredReceipt[]> {
  const { rows } = await db.query<StoredReceipt>({ text: LIST_RECEIPTS, values: [from, to] })
  return rows
}

// What the log has of them stays, and still verifies: a digest of something random besides says nothing of anybody.
// An id that was forgotten may have been posted again, about somebody else: each receipt goes by the planning it is of.
const OF_ITS_EVENT = "e.id = r.event_id and date_trunc('milliseconds', e.planned_at) = r.planned_at"

const ERASE_RECEIPTS = `
  update receipts r set payload = null, subject_tag = null from events e
   where e.id = any($1::uuid[]) and ${OF_ITS_EVENT} and r.payload is not null`

/** Erases what receipts of these events say. @returns how many. */
export async function eraseReceipts(transaction: Queryable, eventIds: readonly string[]): Promise<number> {
  const { rowCount } = await transaction.query({
    name: 'erase_receipts',
    text: ERASE_RECEIPTS,
    values: [plainArray(eventIds)],
  })
  return rowCount ?? 0
}

const ERASE_OLD_RECEIPTS = `
  update receipts r set payload = null, subject_tag = null
   where subject_tag = any($1::uuid[]) and planned_at < $2 and not exists (select from events e where ${OF_ITS_EVENT})`

/**
 * The same for receipts that have one of these tags and outlived their events. Where the event is kept, its receipt goes when
 * that does.
 */
export async function eraseOldReceipts(
  transaction: Queryable,
  { tags, before }: { tags: readonly string[]; before: Date },
): Promise<number> {
  const { rowCount } = await transaction.query({
    name: 'erase_old_receipts',
    text: ERASE_OLD_RECEIPTS,
    values: [plainArray(tags), before],
  })
  return rowCount ?? 0
}
