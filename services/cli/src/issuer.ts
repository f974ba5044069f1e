import type { Client } from '@curfew/client'
import { UsageError } from './arguments.ts'
import { answered } from './connect.ts'

/** The issuer that is meant: the one that is named, or the only one. @throws {UsageError} where several could be. */
export async function issuerOf(client: Client, named: string | undefined): Promise<string> {
  if (named !== undefined) return named
  const { items, next_cursor } = await answered(client.listIssuers({ limit: 10 }))
  if (items.length === 1 && items[0] !== undefined) return items[0].name
  const names = [...items.map(({ name }) => name), ...(next_cursor === null ? [] : ['…'])].join(', ')
  throw new UsageError(
    items.length === 0
      ? 'This key sees no issuer: name one with --issuer, or register the first.'
      : `Which issuer? Give --issuer NAME: ${names}`,
  )
}
