/**
 * A PostgreSQL array of values that need no quoting: numbers, booleans, UUIDs, words of ours, times. Several times faster
 * than what `pg` does for any text, which counts where a statement takes thousands of rows.
 */
export function plainArray(values: readonly (string | number | boolean | Date | null)[]): string {
  let text = '{'
  for (const [index, value] of values.entries()) {
    if (index > 0) text += ','
    text += value === null ? 'NULL' : value instanceof Date ? value.toISOString() : String(value)
  }
  return `${text}}`
}
