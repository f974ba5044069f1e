import { createHash } from 'node:crypto'
import { originOf, type Quarantine, type Quarantined } from '@curfew/domain'
import { isUnavailable, type Queryable } from '../postgres/database.ts'
import { rowParameters } from '../postgres/parameters.ts'

// Stores records of every event log in quarantine. A record must not hold up its partition because it cannot be stored. So its
// parts have size limits, and texts are stored as bytes or without the characters that PostgreSQL refuses.

const VALUE_BYTES_MAX = 65_536
const KEY_BYTES_MAX = 8_192
/** Of the headers as JSON. */
const HEADERS_BYTES_MAX = 16_384
const REASON_LENGTH_MAX = 1_000
/** Most records of one statement: their values have at most 6 MiB. */
const BATCH = 100

interface Row {
  readonly lane: string
  readonly position: string
  readonly key: Buffer
  readonly value: Buffer
  readonly valueBytes: number
  readonly valueSha256: Buffer
  readonly headers: string
  readonly cutShort: boolean
  readonly kind: string
  readonly reason: string
  readonly iss: string | null
  readonly eventId: string | null
}

const RECORDS = rowParameters<Row>({
  lane: ['text', ({ lane }) => lane],
  log_position: ['text', ({ position }) => position],
  key: ['bytea', ({ key }) => key],
  value: ['bytea', ({ value }) => value],
  value_bytes: ['bigint', ({ valueBytes }) => valueBytes],
  value_sha256: ['bytea', ({ valueSha256 }) => valueSha256],
  headers: ['json', ({ headers }) => headers],
  cut_short: ['boolean', ({ cutShort }) => cutShort],
  kind: ['text', ({ kind }) => kind],
  reason: ['text', ({ reason }) => reason],
  iss: ['text', ({ iss }) => iss],
  event_id: ['uuid', ({ eventId }) => eventId],
})

const QUARANTINE = `
  insert into quarantined_records (${RECORDS.names})
  select * from ${RECORDS.as('given')}
      on conflict (lane, log_position, value_sha256) do nothing`

/** Creates the quarantine that event logs use. */
export function createQuarantine(db: Queryable): Quarantine {
  return (records) => quarantine(db, records)
}

/**
 * Stores records in quarantine. Stored records stay unchanged. If PostgreSQL refuses a record, its position, length and digest
 * are stored without its content.
 *
 * @throws {LedgerUnavailableError}
 */
export async function quarantine(db: Queryable, records: readonly Quarantined[]): Promise<void> {
  for (let at = 0; at < records.length; at += BATCH) {
    const rows = records.slice(at, at + BATCH).map(toRow)
    try {
      await insert(db, rows)
    } catch (error) {
      if (isUnavailable(error)) throw error
      for (const row of rows) await insertAlone(db, row)
    }
  }
}

async function insertAlone(db: Queryable, row: Row): Promise<void> {
  try {
    await insert(db, [row])
  } catch (error) {
    if (isUnavailable(error)) throw error
    await insert(db, [withoutContent(row, error)])
  }
}

async function insert(db: Queryable, rows: readonly Row[]): Promise<void> {
  await db.query({ name: 'quarantine', text: QUARANTINE, values: RECORDS.values(rows) })
}

function toRow({ record, kind, reason }: Quarantined): Row {
  const { lane, position, key, value, headers } = record
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  const keyBytes = Buffer.from(key)
  const kept = keptHeaders(headers)
  const { iss, eventId } = originOf({ lane, key, text: bytes.toString(), headers })
  return {
    lane,
    position: storable(position),
    key: keyBytes.subarray(0, KEY_BYTES_MAX),
    value: bytes.subarray(0, VALUE_BYTES_MAX),
    valueBytes: bytes.byteLength,
    valueSha256: createHash('sha256').update(bytes).digest(),
    headers: kept.json,
    cutShort:
      bytes.byteLength > VALUE_BYTES_MAX ||
      keyBytes.byteLength > KEY_BYTES_MAX ||
      kept.count < count(headers),
    kind,
    reason: storable(reason).slice(0, REASON_LENGTH_MAX).toWellFormed(),
    iss,
    eventId,
  }
}

/** The row without the members that PostgreSQL could refuse. */
function withoutContent(row: Row, error: unknown): Row {
  const why = error instanceof Error ? error.message : String(error)
  const reason = storable(`${row.reason} Its content could not be stored: ${why}`)
  return {
    ...row,
    key: Buffer.alloc(0),
    value: Buffer.alloc(0),
    headers: '{}',
    cutShort: true,
    reason: reason.slice(0, REASON_LENGTH_MAX).toWellFormed(),
    iss: null,
    eventId: null,
  }
}

/** The headers that fit, as JSON, in order. The type `json` accepts every escape, even that of a NUL. */
function keptHeaders(headers: Readonly<Record<string, string>>): {
  readonly json: string
  readonly count: number
} {
  const kept: [string, string][] = []
  let bytes = 2
  for (const entry of Object.entries(headers)) {
    const length = Buffer.byteLength(JSON.stringify(entry))
    if (bytes + length > HEADERS_BYTES_MAX) continue
    kept.push(entry)
    bytes += length
  }
  return { json: JSON.stringify(Object.fromEntries(kept)), count: kept.length }
}

function count(headers: Readonly<Record<string, string>>): number {
  return Object.keys(headers).length
}

/** Replaces the characters that PostgreSQL's `text` refuses. */
function storable(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\ufffd')
}
