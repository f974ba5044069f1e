import { type Erased, keysOf, recordConcerns } from '@curfew/domain'
import type { Queryable } from '../postgres/database.ts'

// Where a name is written as it is, or as JSON may write it.
const SUSPECTS = `
  select id, key, value, state in ('requeued', 'dismissed') as over from quarantined_records
   where quarantined_at < $3
     and (iss is null or iss = $4)
     and (key = any($1::bytea[]) or exists (select from unnest($2::bytea[]) as name where position(name in value) > 0))`

/** A record about a subject, and whether a person has decided about it. */
export interface QuarantinedOf {
  readonly id: number
  readonly over: boolean
}

/** The records about a subject that were put into quarantine before. Looks into every record: there are few. */
export async function findQuarantined(
  transaction: Queryable,
  who: Erased,
  { before }: { before: Date },
): Promise<readonly QuarantinedOf[]> {
  const { rows } = await transaction.query<QuarantinedOf & { key: Uint8Array; value: Uint8Array }>({
    text: SUSPECTS,
    values: [
      keysOf(who).map((key) => Buffer.from(key)),
      [who.sub, ...who.sids, ...who.emails].flatMap(spellings),
      before,
      who.iss,
    ],
  })
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
  return rows
    .filter(({ key, value }) => recordConcerns({ key: text(key), text: text(value) }, who))
    .map(({ id, over }) => ({ id, over }))
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
