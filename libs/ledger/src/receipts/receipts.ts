import { hash } from 'node:crypto'
import { givenIdRange, type SettledEvent } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Database, Queryable } from '../postgres/database.ts'
import { namedParameters, rowParameters } from '../postgres/parameters.ts'
import type { Unreceipted } from './facts.ts'
import { appendToLog, type ReceiptLog } from './log.ts'

/** A receipt to store. */
export interface NewReceipt extends Pick<Unreceipted, 'revision' | 'settledAt'> {
  readonly event: Pick<SettledEvent, 'id' | 'givenId' | 'plannedAt'>
  /** The claims, byte for byte. */
  readonly payload: string
  /** Finds the receipt when its subject is erased after the event was deleted. */
  readonly subjectTag: string
}

/**
 * Separates payloads in one text: an array of texts with many quotes is costly to write and to read. No payload has this
 * character: JSON escapes it.
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

/** Stores receipts, and appends their digests to the receipt log, which the transaction has locked. */
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

/** A stored receipt. */
export interface StoredReceipt {
  readonly eventId: string
  /** The id that its issuer gave the event. */
  readonly givenId: string
  readonly revision: number
  readonly logIndex: number
  readonly plannedAt: Date
  readonly settledAt: Date
  /** Null if erased. */
  readonly payload: string | null
}

const RECEIPT_COLUMNS = `event_id as "eventId", given_id as "givenId", revision, log_index as "logIndex", planned_at as "plannedAt", settled_at as "settledAt", payload`
// Ordered by index and not by revision: a deleted event may have been posted again, and its revisions start again.
const FIND_RECEIPT = `
  select ${RECEIPT_COLUMNS} from receipts
   where event_id = $1 and ($2::bigint is null or log_index = $2) order by log_index desc limit 1`
const LIST_RECEIPTS = `
  select ${RECEIPT_COLUMNS} from receipts where log_index >= $1 and log_index < $2 order by log_index`

/** Finds the receipt of an event: the latest, or the one at an index of the log. Null if there is none (any more). */
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

/** Finds the latest receipt of each event to which an issuer gave this id. The event itself may have been deleted. */
export async function findReceiptsOfGivenId(
  db: Queryable,
  givenId: string,
): Promise<readonly StoredReceipt[]> {
  const values = [givenId, ...givenIdRange(givenId)]
  return (await db.query<StoredReceipt>({ text: RECEIPTS_OF_GIVEN_ID, values })).rows
}

// Looks for the journal entry that settled the last delivery, or that planned an event without deliveries.
const AWAITED = `
  select exists (select from journal where date_trunc('milliseconds', at) <= $1)
      or exists (select from journal_left where projector = 'receipts' and date_trunc('milliseconds', at) <= $1) as awaited`

/**
 * Whether the receipt of an event that was settled at this time may still be issued. If not, it has been issued: a caller that
 * looked for the receipt before must look again.
 */
export async function isReceiptAwaited(db: Database, settledAt: Date): Promise<boolean> {
  const { rows } = await db.query<{ awaited: boolean }>({
    name: 'receipt_awaited',
    text: AWAITED,
    values: [settledAt],
  })
  return rows[0]?.awaited === true
}

/** Lists the stored receipts at the indexes of the log from `from`, inclusive, to `to`, exclusive. */
export async function listReceipts(
  db: Queryable,
  { from, to }: { from: number; to: number },
): Promise<readonly StoredReceipt[]> {
  const { rows } = await db.query<StoredReceipt>({ text: LIST_RECEIPTS, values: [from, to] })
  return rows
}

// The digests in the log stay and still verify. They reveal nothing about a subject, because each payload has a random part.
// A deleted event may have been posted again, about another subject: the time of planning says which receipt belongs to which.
const OF_ITS_EVENT = "e.id = r.event_id and date_trunc('milliseconds', e.planned_at) = r.planned_at"

const ERASE_RECEIPTS = `
  update receipts r set payload = null, subject_tag = null from events e
   where e.id = any($1::uuid[]) and ${OF_ITS_EVENT} and r.payload is not null`

/** Erases the payloads of the receipts of these events. @returns the number of erased receipts. */
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
 * Erases the payloads of receipts that have one of these tags and whose events were deleted. The receipt of a kept event is
 * erased with the event.
 *
 * @returns the number of erased receipts.
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
