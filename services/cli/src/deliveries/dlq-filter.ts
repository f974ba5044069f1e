import type { DeadLetterFilterInput } from '@curfew/contract'
import { type Given, text } from '../terminal/arguments.ts'

/** The options that select dead letters. */
export const FILTER_OPTIONS = {
  issuer: text('NAME', 'only of this issuer'),
  client: text('CLIENT_ID', 'only of this relying party'),
  channel: text('KIND', 'only of this channel'),
  reason: text('REASON', 'only with this reason'),
  from: text('TIME', 'only dead since this time'),
  to: text('TIME', 'only dead before this time'),
} as const

/** The filter from the options. The server validates it, and lists the valid reasons. */
export function filterOf({
  issuer,
  client,
  channel,
  reason,
  from,
  to,
}: Given<typeof FILTER_OPTIONS>['values']): Omit<DeadLetterFilterInput, 'ids'> {
  return {
    ...(issuer !== undefined && { issuer }),
    ...(client !== undefined && { client_id: client }),
    ...(channel !== undefined && { channel }),
    ...(reason !== undefined && { reason: reason as NonNullable<DeadLetterFilterInput['reason']> }),
    ...(from !== undefined && { from }),
    ...(to !== undefined && { to }),
  }
}
