import type { Client } from '@curfew/client'
import { UsageError } from './arguments.ts'
import { answered } from './connect.ts'

/** The name of the given issuer, or of the only one. @throws {UsageError} if there are several or none. */
export async function issuerOf(client: Client, named: string | undefined): Promise<string> {
  if (named !== undefined) return named
  const { items, next_cursor } = await answered(client.listIssuers({ limit: 10 }))
  if (items.length === 1 && items[0] !== undefined) return items[0].name
  const names = [...items.map(({ name }) => name), ...(next_cursor === null ? [] : ['…'])].join(', ')
  throw new UsageError(
    items.length === 0
      ? 'This key may list no issuer. Name one with --issuer, or register an issuer first.'
      : `There are several issuers. Give --issuer NAME: ${names}`,
  )
}
