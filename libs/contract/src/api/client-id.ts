import { readClient } from '@curfew/domain'

/** The `client_id` that a client's metadata names, in whichever product's words it is written; null where it names none. */
export function clientIdIn(metadata: unknown): string | null {
  if (typeof metadata !== 'object' || metadata === null) return null
  const value = readClient(metadata as Readonly<Record<string, unknown>>).clientId?.value
  return typeof value === 'string' ? value : null
}
