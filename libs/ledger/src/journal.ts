import type { DeliveryId, DeliveryState, EventId } from '@curfew/domain'
import { type Database, type Queryable, withTransaction } from './database.ts'
import { tryLock } from './locks.ts'

/** A state in which a delivery is settled. */
export type SettledState = Exclude<DeliveryState, 'pending' | 'in_flight'>

/** What one statement planned or settled, as it stood when that was committed. */
export type JournalEntry =
  | {
      readonly kind: 'planned'
      readonly at: Date
      /** Events that the ledger did not have before; some may owe nothing. */
      readonly eventIds: readonly EventId[]
      /** What is owed since. */
      readonly deliveryIds: readonly DeliveryId[]
    }
  | { readonly kind: 'settled'; readonly at: Date; readonly settled: readonly SettledDelivery[] }

export interface SettledDelivery {
  readonly id: DeliveryId
  readonly state: SettledState
  /** How often it had been replayed before it ended so: 0 the first time. By now it may be under way again. */
  readonly generation: number
}

/** Enters what happened into books of its own, in the transaction in which it is struck out of the journal: once, or not at all. */
export type Poster = (transaction: Queryable, entries: readonly JournalEntry[]) => Promise<void>

interface JournalRow {
  readonly id: number
  readonly kind: 'planned' | 'settled'
  readonly at: Date
  /** As text, with commas between: an array of thousands is read several times as fast so. */
  readonly eventIds: string
  readonly deliveryIds: string
  readonly states: string
  readonly generations: string
}

// Some that were written earlier may be committed later; they are found then, for each is deleted by its own number.
const TAKE_ENTRIES = `
  select id, kind, at, array_to_string(event_ids, ',') as "eventIds", array_to_string(delivery_ids, ',') as "deliveryIds",
         array_to_string(states, ',') as states, array_to_string(generations, ',') as generations
    from journal order by id limit $1`

const STRIKE_ENTRIES = 'delete from journal where id = any($1::bigint[])'

/**
 * Hands the oldest entries of the journal to every poster, and deletes them: all of it in one transaction, and by one
 * bookkeeper at a time.
 *
 * @param limit most entries; each is a whole batch of plans or settlements.
 * @returns how many entries; null when another bookkeeper is at it.
 */
export async function postJournal(
  db: Database,
  { limit, posters }: { limit: number; posters: readonly Poster[] },
): Promise<number | null> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'journal'))) return null
    const { rows } = await transaction.query<JournalRow>({
      name: 'take_entries',
      text: TAKE_ENTRIES,
      values: [limit],
    })
    if (rows.length === 0) return 0
    const entries = rows.map(toEntry)
    for (const post of posters) await post(transaction, entries)
    await transaction.query({
      name: 'strike_entries',
      text: STRIKE_ENTRIES,
      values: [rows.map(({ id }) => id)],
    })
    return rows.length
  })
}

function toEntry({ kind, at, ...row }: JournalRow): JournalEntry {
  const deliveryIds = split<DeliveryId>(row.deliveryIds)
  if (kind === 'planned') return { kind, at, eventIds: split<EventId>(row.eventIds), deliveryIds }
  // As many as there are deliveries: the schema sees to it.
  const [states, generations] = [split<SettledState>(row.states), split(row.generations)]
  const settled = deliveryIds.map((id, index) => ({
    id,
    state: states[index] as SettledState,
    generation: Number(generations[index]),
  }))
  return { kind, at, settled }
}

function split<Item extends string>(list: string): readonly Item[] {
  return list === '' ? [] : (list.split(',') as Item[])
}
