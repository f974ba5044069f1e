import { type Erased, keysOf, recordConcerns } from '@curfew/domain'
import type { Queryable } from './database.ts'

// Where a name is written as it is, or as JSON may write it.
const SUSPECTS = `
  select id, key, value from quarantined_records
   where quarantined_at < $3
     and (key = any($1::text[]) or exists (select from unnest($2::bytea[]) as name where position(name in value) > 0))`

/** Ids of the records about a subject that were put into quarantine before. Looks into every record: there are few. */
export async function findQuarantined(
  transaction: Queryable,
  who: Erased,
  { before }: { before: Date },
): Promise<readonly number[]> {
  const { rows } = await transaction.query<{ id: number; key: string; value: Uint8Array }>({
    text: SUSPECTS,
    values: [keysOf(who), [who.sub, ...who.sids].flatMap(spellings), before],
  })
  return rows
    .filter(({ key, value }) => recordConcerns({ key, text: new TextDecoder().decode(value) }, who))
    .map(({ id }) => id)
}

const DROP_QUARANTINED = 'delete from quarantined_records where id = any($1::bigint[])'

/** Forgets records. */
export async function dropQuarantined(transaction: Queryable, ids: readonly number[]): Promise<void> {
  await transaction.query({ text: DROP_QUARANTINED, values: [ids] })
}

/** How a name may stand in a record: as it is, as JSON has it, and as JSON in ASCII alone has it. */
function spellings(name: string): readonly Buffer[] {
  const json = JSON.stringify(name).slice(1, -1)
  const ascii = json.replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  return [...new Set([name, json, ascii])].map((text) => Buffer.from(text))
}
