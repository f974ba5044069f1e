import type { DeliveryWithAttempts, LastError } from '@curfew/contract'
import { table } from '../terminal/table.ts'

type Attempt = DeliveryWithAttempts['attempts'][number]

/** The last error as text, such as `503: database down`; empty if there is none. */
export function lastErrorText(last: LastError | null): string {
  if (last === null) return ''
  return inOrder(last.status ?? last.error_class, last.error, last.error_description)
}

/** The table of the attempts of a delivery. An attempt that was given up before it was sent has the outcome `undeliverable`. */
export function attemptsText({
  attempt_count,
  attempts,
}: Pick<DeliveryWithAttempts, 'attempt_count' | 'attempts'>): string {
  if (attempts.length === 0)
    return attempt_count === 0 ? 'Nothing was sent.\n' : 'Its attempts are no longer kept.\n'
  const rows = attempts.map((attempt) => [
    attempt.number,
    attempt.started_at,
    attempt.duration_ms,
    attempt.outcome,
    attempt.status ?? '',
    attempt.error_class ?? '',
    attempt.jti ?? '',
    answerText(attempt),
  ])
  return table([['#', 'STARTED', 'MS', 'OUTCOME', 'STATUS', 'FAULT', 'JTI', 'ANSWER'], ...rows])
}

/** The answer to an attempt beside its status: its note, the target of a redirect and the words of the relying party. */
function answerText({ note, location, error, error_description }: Attempt): string {
  return inOrder(note, location === null ? null : `redirect to ${location}`, error, error_description)
}

function inOrder(...parts: readonly (string | number | null)[]): string {
  return parts.filter((part) => part !== null).join(': ')
}
