import { createHash } from 'node:crypto'
import type { ConsumedRecord, LedgerId, OwnLedger } from '@curfew/domain'

/** A record and its place in its partition. */
export interface Entry {
  readonly offset: bigint
  /** The epoch of the leader that appended the record. It changes with every new leader, so also after a log has lost its end. */
  readonly epoch: number
  /** The timestamp in the log, in milliseconds. */
  readonly timestamp: string
  /** When this process read it, in milliseconds. */
  readonly readMs: number
  readonly record: ConsumedRecord
}

/** Identifies a record when it is read again. It is kept with the commit of the offset that follows it. */
export interface Mark {
  readonly offset: bigint
  readonly epoch: number
  readonly timestamp: string
  readonly readMs: number
  readonly digest: string
}

/** The offset after a handled record, and that record's mark; null if it is unknown. */
export interface Place {
  readonly next: bigint
  readonly mark: Mark | null
}

const DIGEST_BYTES = 16

export function markOf({ offset, epoch, timestamp, readMs, record }: Entry): Mark {
  return { offset, epoch, timestamp, readMs, digest: digestOf(record) }
}

/** Whether a record is the marked one. */
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

/** The metadata of a commit: about 200 bytes, of the 4 KiB that brokers allow. */
export function encodeCommit(mark: Mark | null, ledger: LedgerId | null): string {
  const { epoch, timestamp, readMs: read, digest } = mark ?? {}
  const own = ledger && { id: ledger.id, database: ledger.database, at: Date.now() }
  return JSON.stringify({ v: 1, epoch, timestamp, read, digest, ledger: own })
}

/**
 * Describes the other ledger that a commit names. Returns null if the commit names this ledger or none, or if it is older than
 * this ledger's takeover of the topics. The records after such a commit are owed to the relying parties of the other ledger.
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

/** The error text for a partition that belongs to another ledger. */
export function foreignText(partition: string, other: string): string {
  return `the last commit of ${partition} is from ${other}: give each ledger its own KAFKA_TOPIC_PREFIX, or take the topics over with: npx curfew event-log use`
}

/**
 * The mark committed with `next`; null if the commit has none. An operator or an earlier release writes commits without a mark.
 */
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

/** How far clocks of producers may differ. The search for records after a loss starts this much earlier. */
const CLOCKS_DIFFER_MS_MAX = 3_600_000

/** The earliest time of records appended after the loss of the marked one, in milliseconds. */
export function lostSince({ timestamp, readMs }: Mark): number {
  return Math.max(0, Math.min(Number(timestamp), readMs) - CLOCKS_DIFFER_MS_MAX)
}
