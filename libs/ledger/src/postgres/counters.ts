// Counters stop at their limit. A statement that counts beyond it would fail as a whole, for every row of its batch.

export const SMALLINT_MAX = 32_767
const INTEGER_MAX = 2_147_483_647

/** SQL: an integer counter `by` more, or at its limit. */
export function counted(counter: string, by: number | string): string {
  return `least(${counter}, ${INTEGER_MAX} - ${by}) + ${by}`
}

/** SQL: a sum that is kept as an integer. */
export function integerSum(sum: string): string {
  return `least(${sum}, ${INTEGER_MAX})::int`
}

/** A whole number from 0 on that PostgreSQL can keep; 0 for none. */
export function integer(value: number, max = INTEGER_MAX): number {
  return Number.isNaN(value) ? 0 : Math.min(Math.max(Math.round(value), 0), max)
}
