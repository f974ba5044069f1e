import type { DeadLetterFilterInput } from '@curfew/contract'

/** The options that select dead letters. */
export const FILTER_OPTIONS = {
  issuer: { type: 'string' },
  client: { type: 'string' },
  channel: { type: 'string' },
  reason: { type: 'string' },
  from: { type: 'string' },
  to: { type: 'string' },
} as const

type Values = { readonly [Option in keyof typeof FILTER_OPTIONS]?: string | undefined }

/** The filter from the options. The server validates it, and lists the valid reasons. */
export function filterOf({
  issuer,
  client,
  channel,
  reason,
  from,
  to,
}: Values): Omit<DeadLetterFilterInput, 'ids'> {
  return {
    ...(issuer !== undefined && { issuer }),
    ...(client !== undefined && { client_id: client }),
    ...(channel !== undefined && { channel }),
    ...(reason !== undefined && { reason: reason as NonNullable<DeadLetterFilterInput['reason']> }),
    ...(from !== undefined && { from }),
    ...(to !== undefined && { to }),
  }
}
