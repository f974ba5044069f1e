// Counters stop at their limit. A statement that exceeded it would fail for every row of its batch.

export const SMALLINT_MAX = 32_767
const INTEGER_MAX = 2_147_483_647

/** SQL: an integer counter, increased by `by` up to its limit. */
export function counted(counter: string, by: number | string): string {
  return `least(${counter}, ${INTEGER_MAX} - ${by}) + ${by}`
}

/** SQL: a sum, stored as an integer up to its limit. */
export function integerSum(sum: string): string {
  return `least(${sum}, ${INTEGER_MAX})::int`
}

/** The nearest whole number from 0 to `max`; 0 for NaN. */
export function integer(value: number, max = INTEGER_MAX): number {
  return Number.isNaN(value) ? 0 : Math.min(Math.max(Math.round(value), 0), max)
}
