import { readClient } from '@curfew/domain'

/** The `client_id` in a client's metadata, in the format of any supported product; null if there is none. */
export function clientIdIn(metadata: unknown): string | null {
  if (typeof metadata !== 'object' || metadata === null) return null
  const value = readClient(metadata as Readonly<Record<string, unknown>>).clientId?.value
  return typeof value === 'string' ? value : null
}
