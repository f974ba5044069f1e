import type { LastError } from '@curfew/contract'

/** The last error as text, such as `503: database down`; empty if there is none. */
export function lastErrorText(last: LastError | null): string {
  if (last === null) return ''
  return [last.status ?? last.error_class, last.error, last.error_description]
    .filter((part) => part !== null)
    .join(': ')
}
