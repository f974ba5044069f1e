import { createHash } from 'node:crypto'
import type { ConsumedRecord, LedgerId, OwnLedger } from '@curfew/domain'

/** A record and where it lies in its partition. */
export interface Entry {
  readonly offset: bigint
  /** Of the leader that appended it. It changes whenever another leader appends, so also after a log has lost its end. */
  readonly epoch: number
  /** As the log has it, in milliseconds. */
  readonly timestamp: string
  /** When this process read it, in milliseconds. */
  readonly readMs: number
  readonly record: ConsumedRecord
}

/** By what a record is known again, kept with the commit of the offset that follows it. */
export interface Mark {
  readonly offset: bigint
  readonly epoch: number
  readonly timestamp: string
  readonly readMs: number
  readonly digest: string
}

/** What follows a handled record, and that record; null where nothing is known of it. */
export interface Place {
  readonly next: bigint
  readonly mark: Mark | null
}

const DIGEST_BYTES = 16

export function markOf({ offset, epoch, timestamp, readMs, record }: Entry): Mark {
  return { offset, epoch, timestamp, readMs, digest: digestOf(record) }
}

/** Whether a record is the one that was marked. */
export function isMarked(entry: Entry, mark: Mark): boolean {
  return (
    entry.offset === mark.offset &&
    entry.timestamp === mark.timestamp &&
    digestOf(entry.record) === mark.digest
  )
}

function digestOf({ key, value }: ConsumedRecord): string {
  const hash = createHash('sha256').update(key).update('\0').update(value)
  return hash.digest().subarray(0, DIGEST_BYTES).toString('base64url')
}

/** As metadata of a commit: about 200 bytes, of the 4 KiB that brokers allow. */
export function encodeCommit(mark: Mark | null, ledger: LedgerId | null): string {
  const { epoch, timestamp, readMs: read, digest } = mark ?? {}
  const own = ledger && { id: ledger.id, database: ledger.database, at: Date.now() }
  return JSON.stringify({ v: 1, epoch, timestamp, read, digest, ledger: own })
}

/**
 * The other ledger that a commit names, in words; null where the commit is of this ledger, names none, or is older than the time at
 * which this ledger took the topics over. The records after it are owed to the relying parties of the other ledger.
 */
export function otherLedger(metadata: string | null | undefined, own: OwnLedger): string | null {
  const { ledger } = Object(parse(metadata ?? '')) as Readonly<Record<string, unknown>>
  const { id, database, at } = Object(ledger) as Readonly<Record<string, unknown>>
  if (typeof id !== 'string' || typeof at !== 'number') return null
  if (own.takenMs !== null && at <= own.takenMs) return null
  if (id !== own.id) return `ledger ${id}`
  const isCopy = typeof database === 'string' && own.database !== null && database !== own.database
  return isCopy ? `the copy of ledger ${id} in database ${database}` : null
}

/** What to do where records belong to another ledger. */
export function foreignText(partition: string, other: string): string {
  return `the commit of ${partition} is of ${other}: give each ledger a KAFKA_TOPIC_PREFIX of its own, or take the topics over by: npx curfew event-log use`
}

/** The mark that was committed with `next`; null where the commit has none, as when an operator or an earlier release wrote it. */
export function decodeMark(metadata: string | null | undefined, next: bigint): Mark | null {
  const parsed = parse(metadata ?? '')
  const { v, epoch, timestamp, read, digest } = Object(parsed) as Readonly<Record<string, unknown>>
  if (v !== 1 || typeof epoch !== 'number' || typeof timestamp !== 'string') return null
  if (!/^-?\d{1,19}$/.test(timestamp) || typeof read !== 'number' || typeof digest !== 'string') return null
  return { offset: next - 1n, epoch, timestamp, readMs: read, digest }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

/** How far clocks of producers may differ. Records that were appended after a loss are looked for from so long before it. */
const CLOCKS_DIFFER_MS_MAX = 3_600_000

/** From when on records may have been appended after the marked one was lost, in milliseconds. */
export function lostSince({ timestamp, readMs }: Mark): number {
  return Math.max(0, Math.min(Number(timestamp), readMs) - CLOCKS_DIFFER_MS_MAX)
}
