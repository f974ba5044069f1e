import type { DeliveryWithAttempts, LastError } from '@curfew/contract'

type Attempt = DeliveryWithAttempts['attempts'][number]

/** The last error as text, such as `503: database down`; empty if there is none. */
export function lastErrorText(last: LastError | null): string {
  if (last === null) return ''
  return inOrder(last.status ?? last.error_class, last.error, last.error_description)
}

/** The answer to an attempt beside its status: its note, the target of a redirect and the words of the relying party. */
export function answerText({ note, location, error, error_description }: Attempt): string {
  return inOrder(note, location === null ? null : `redirect to ${location}`, error, error_description)
}

function inOrder(...parts: readonly (string | number | null)[]): string {
  return parts.filter((part) => part !== null).join(': ')
}
