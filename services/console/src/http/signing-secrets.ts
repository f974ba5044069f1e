import { parseWebhookSecret } from '@curfew/outbound'
import type { Fault } from '@curfew/runtime'

// The secrets that sign messages to receivers (Standard Webhooks): those of webhooks, and those of confirmations.

/** Time for which the previous secret signs too after a rotation, in milliseconds. */
export const OVERLAP_MS = 86_400_000

/** The faults of a secret in its text form. @param pointer JSON pointer to it. */
export function secretFaults(secret: string, pointer: string): readonly Fault[] {
  if (parseWebhookSecret(secret) !== null) return []
  return [{ pointer, detail: 'must be whsec_ and 24 to 64 bytes in base64 (Standard Webhooks)' }]
}
