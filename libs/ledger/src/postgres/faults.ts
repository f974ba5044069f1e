import { CurfewError, LedgerSchemaError, LedgerUnavailableError } from '@curfew/domain'

// Errors of PostgreSQL about a value, and how a batch continues without the value.

/** A value that PostgreSQL cannot represent. */
export class UnwritableValueError extends CurfewError {
  override readonly code = 'ERR_UNWRITABLE_VALUE'
}

/**
 * Whether PostgreSQL refused a value: SQLSTATE classes 22 (data exception) and 23 (constraint violation). The same statement with
 * the same values would always fail again.
 */
export function isDataFault(error: unknown): error is Error {
  if (error instanceof UnwritableValueError) return true
  return error instanceof Error && 'code' in error && /^2[23]...$/.test(String(error.code))
}

/** Whether PostgreSQL is available but refuses the statement: any SQLSTATE, or a missing table. */
export function isRefusal(error: unknown): boolean {
  if (error instanceof LedgerSchemaError) return true
  return error instanceof Error && 'code' in error && /^[0-9A-Z]{5}$/.test(String(error.code))
}

/** Whether PostgreSQL cancelled the statement because of its timeout. */
export function isStatementTimeout(error: unknown): boolean {
  return (
    error instanceof LedgerUnavailableError &&
    error.cause instanceof Error &&
    'code' in error.cause &&
    error.cause.code === '57014'
  )
}

/** An item that the ledger refuses even when it is written alone, and why. */
export interface Refused<Item> {
  readonly item: Item
  readonly error: Error
}

/**
 * Does `work` for all items at once. If PostgreSQL refuses a value, repeats `work` for each half, down to single items. One bad
 * item costs about 2 log₂ n calls and does not hold up the good items.
 *
 * @returns the items that were refused alone.
 * @throws any error that is not a data fault. Some items may be done by then.
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

/** A delivery with a value that the ledger refused, and its state afterwards. */
export interface DeliveryFault {
  /** The statement, as a verb. */
  readonly doing: 'settle' | 'claim' | 'narrow' | 'release' | 'supersede' | 'give_up' | 'announce'
  readonly deliveryId: string
  /**
   * - `bare`: settled as intended, but without the texts of its attempts.
   * - `dead_lettered`: ended with the reason `unrecordable`.
   * - `left`: unchanged.
   */
  readonly became: 'bare' | 'dead_lettered' | 'left'
  readonly error: Error
}

/** Called for each delivery with a value that the ledger refused. */
export type OnDeliveryFault = (fault: DeliveryFault) => void
