import { type ErasedSubject, type InvalidRecord, keysOf, recordConcerns, stringsOf } from '@curfew/domain'
import type { Queryable } from '../postgres/database.ts'

// Records that may contain a name, either verbatim or escaped as JSON, or an email address in any case. `encode` makes a text of
// bytes that need not be UTF-8.
const SUSPECTS = `
  select id, key, value, state in ('requeued', 'dismissed') as over from quarantined_records
   where quarantined_at < $3
     and (iss is null or iss = $4)
     and (key = any($1::bytea[])
          or exists (select from unnest($2::bytea[]) as name where position(name in value) > 0)
          or exists (select from unnest($5::text[]) as part where position(part in lower(encode(value, 'escape'))) > 0))`

/** A record about a subject. `over`: it was requeued or dismissed. */
export interface QuarantinedOf {
  readonly id: number
  readonly over: boolean
}

// Both columns of the partition key, so that it is one index scan in one partition for each sid.
const SIDS_OF_OTHERS = `
  select named.sid
    from session_issuers i
    cross join unnest($3::text[]) as named(sid)
   where i.iss = $1
     and exists (select from session_ids s where s.issuer = i.id and s.sid = named.sid and s.sub <> $2 offset 0)`

/**
 * Finds the records about a subject that were quarantined before `before`. It searches all records, because there are few.
 *
 * Several subjects may share an email address. A record that has no other name of the subject, and names a session that the
 * session index knows to be another subject's, is not about the subject.
 */
export async function findQuarantined(
  transaction: Queryable,
  subject: ErasedSubject,
  { before }: { before: Date },
): Promise<readonly QuarantinedOf[]> {
  const { rows } = await transaction.query<QuarantinedOf & { key: Uint8Array; value: Uint8Array }>({
    text: SUSPECTS,
    values: [
      keysOf(subject).map((key) => Buffer.from(key)),
      [subject.sub, ...subject.sids].flatMap(spellings),
      before,
      subject.iss,
      [...subject.emails].map(plainPart),
    ],
  })
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
  const records = rows
    .map(({ id, over, key, value }) => ({ id, over, key: text(key), text: text(value) }))
    .filter((record) => recordConcerns(record, subject))
  const unnamed = { ...subject, emails: new Set<string>() }
  const byEmail = records.filter((record) => !recordConcerns(record, unnamed))
  const others = await sidsOfOthers(transaction, subject, byEmail)
  const left = new Set(byEmail.filter((record) => stringsOf(record).some((one) => others.has(one))))
  return records.filter((record) => !left.has(record)).map(({ id, over }) => ({ id, over }))
}

/** The sids in the records that the session index knows to be of another subject. */
async function sidsOfOthers(
  transaction: Queryable,
  { iss, sub }: ErasedSubject,
  records: readonly InvalidRecord[],
): Promise<ReadonlySet<string>> {
  // PostgreSQL refuses a NUL character, and no sid has one.
  const named = new Set(records.flatMap((record) => stringsOf(record)).filter((one) => !one.includes('\0')))
  if (named.size === 0) return named
  const { rows } = await transaction.query<{ sid: string }>({
    text: SIDS_OF_OTHERS,
    values: [iss, sub, [...named]],
  })
  return new Set(rows.map(({ sid }) => sid))
}

const DROP_QUARANTINED = 'delete from quarantined_records where id = any($1::bigint[])'

/** Deletes quarantined records. */
export async function dropQuarantined(transaction: Queryable, ids: readonly number[]): Promise<void> {
  await transaction.query({ text: DROP_QUARANTINED, values: [ids] })
}

/** The spellings of a name in a record: verbatim, escaped as JSON, and escaped as JSON in ASCII. */
function spellings(name: string): readonly Buffer[] {
  const json = JSON.stringify(name).slice(1, -1)
  const ascii = json.replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  return [...new Set([name, json, ascii])].map((text) => Buffer.from(text))
}

/** The longest part of an address, in lower case, whose characters no JSON writer escapes. */
function plainPart(email: string): string {
  const parts = email.toLowerCase().match(/[a-z0-9@._-]+/g) ?? []
  return parts.reduce((longest, part) => (part.length > longest.length ? part : longest), '')
}
