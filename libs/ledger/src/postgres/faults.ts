import { CurfewError, LedgerSchemaError, LedgerUnavailableError } from '@curfew/domain'

// What PostgreSQL refuses because of a value, and how the rest of a batch gets past it.

/** A value that no text of PostgreSQL's can express. */
export class UnwritableValueError extends CurfewError {
  override readonly code = 'ERR_UNWRITABLE_VALUE'
}

/**
 * Whether PostgreSQL refused a value: SQLSTATE classes 22 (data exception) and 23 (constraint violation). The same statement with
 * the same values fails again, however often it is repeated.
 */
export function isDataFault(error: unknown): error is Error {
  if (error instanceof UnwritableValueError) return true
  return error instanceof Error && 'code' in error && /^2[23]...$/.test(String(error.code))
}

/** Whether PostgreSQL is there and cannot answer this: any SQLSTATE, or a table that is missing. */
export function isRefusal(error: unknown): boolean {
  if (error instanceof LedgerSchemaError) return true
  return error instanceof Error && 'code' in error && /^[0-9A-Z]{5}$/.test(String(error.code))
}

/** Whether PostgreSQL gave the statement up for its time, and undid it. */
export function isStatementTimeout(error: unknown): boolean {
  return (
    error instanceof LedgerUnavailableError &&
    error.cause instanceof Error &&
    'code' in error.cause &&
    error.cause.code === '57014'
  )
}

/** An item that the ledger refused by itself, and why. */
export interface Refused<Item> {
  readonly item: Item
  readonly error: Error
}

/**
 * Does `work` for all items at once. Where a value is refused, does it for each half, down to single items: one bad item costs
 * about 2 log₂ n statements, and no good item is held up by it. Without a fault it is one call.
 *
 * @returns the items that were refused alone. @throws what is no data fault; then some items may have been worked on.
 */
export async function splitAround<Item>(
  items: readonly Item[],
  work: (items: readonly Item[]) => Promise<void>,
): Promise<readonly Refused<Item>[]> {
  try {
    await work(items)
    return []
  } catch (error) {
    if (!isDataFault(error)) throw error
    const [item] = items
    if (item === undefined) throw error
    if (items.length === 1) return [{ item, error }]
    const half = Math.ceil(items.length / 2)
    return [
      ...(await splitAround(items.slice(0, half), work)),
      ...(await splitAround(items.slice(half), work)),
    ]
  }
}

/** Deliveries of which the ledger refused a value, and what became of them. */
export interface DeliveryFault {
  /** The statement, as a verb: `settle`, `claim`. */
  readonly doing: 'settle' | 'claim' | 'narrow' | 'release' | 'supersede' | 'give_up' | 'announce'
  readonly deliveryId: string
  /**
   * `bare`: settled as it should be, without what its attempts said. `dead_lettered`: it ends with the reason `unrecordable`.
   * `left`: it stays as it was.
   */
  readonly became: 'bare' | 'dead_lettered' | 'left'
  readonly error: Error
}

/** Told of each delivery whose values the ledger refused. */
export type OnDeliveryFault = (fault: DeliveryFault) => void
