import {
  consistencyPath,
  ENTRY_LEVEL,
  hashesOf,
  hashesOfSpans,
  inclusionPath,
  LogKeyError,
  leafHash,
  type Span,
  sameBytes,
  TILE_WIDTH,
  type Tile,
  tilesOfSpans,
} from '@curfew/domain'
import { type Database, openReceiptLog, type ReceiptLog, readTiles } from '@curfew/ledger'
import { type Log, ProblemError } from '@curfew/runtime'
import { type LogKeeper, type LogSigner, sha256 } from '@curfew/tokens'

export interface LogReaderDeps {
  readonly db: Database
  readonly keeper: LogKeeper
  /** What the log is called if it begins here; null: a name of its own. */
  readonly origin: string | null
  readonly log: Log
  /** Told of each answer that could not be given because something was altered. */
  readonly onAltered: () => void
}

/** One leaf of the log: SHA-256 of a receipt, and the hash that stands in the tree for it. */
export interface Entry {
  readonly index: number
  readonly digest: Uint8Array
  readonly leafHash: Uint8Array
}

/**
 * Reads the log, and checks what it reads. Whatever is not as the log has it is a problem that says so: we do not vouch
 * for what somebody altered.
 */
export interface LogReader {
  head(): Promise<ReceiptLog>
  signer(log: ReceiptLog): Promise<LogSigner>
  /** The log's checkpoint, signed. */
  checkpoint(log: ReceiptLog): Promise<string>
  /** Entries from `from` up to but without `to`, all of which the log has. */
  entries(from: number, to: number): Promise<readonly Entry[]>
  inclusion(index: number, size: number): Promise<readonly Uint8Array[]>
  consistency(from: number, to: number): Promise<readonly Uint8Array[]>
  root(size: number): Promise<Uint8Array>
  /** The problem to answer with where something was altered; it is logged. */
  altered(detail: string): ProblemError
}

export function createLogReader({ db, keeper, origin, log: lines, onAltered }: LogReaderDeps): LogReader {
  let warned = false

  function altered(detail: string): ProblemError {
    onAltered()
    lines.error({ event: 'ledger.altered', detail })
    return new ProblemError({
      status: 500,
      title: 'The ledger was altered',
      detail: `What is stored is not what the log of receipts has: ${detail}. curfew log verify finds out what else.`,
    })
  }

  async function hashes(spans: readonly Span[]): Promise<readonly Uint8Array[]> {
    const tiles = await readTiles(db, tilesOfSpans(spans))
    return reading(() => hashesOfSpans(spans, tiles, sha256))
  }

  /** @throws a problem where `read` finds that tiles are missing or cut off. */
  function reading<Result>(read: () => Result): Result {
    try {
      return read()
    } catch (error) {
      if (error instanceof RangeError) throw altered(error.message)
      throw error
    }
  }

  async function root(size: number): Promise<Uint8Array> {
    const [hash] = await hashes([{ begin: 0, end: size }])
    return hash ?? sha256(new Uint8Array(0))
  }

  async function signer(log: ReceiptLog): Promise<LogSigner> {
    try {
      return await keeper.signer(log)
    } catch (error) {
      if (!(error instanceof LogKeyError)) throw error
      throw new ProblemError(
        {
          status: 500,
          title: 'The log cannot be signed',
          detail:
            'The keys of the log of receipts lie under another master key than the CURFEW_MASTER_KEY of this service.',
        },
        { cause: error },
      )
    }
  }

  return {
    altered,
    root,
    signer,
    async head() {
      const log = await openReceiptLog(db, () => keeper.newLog(origin))
      if (!warned && origin !== null && origin !== log.origin) {
        lines.error({ event: 'log.origin_kept', origin: log.origin, configured: origin })
        warned = true
      }
      return log
    },
    async checkpoint(log) {
      const { origin: name, size } = log
      const found = await root(size)
      if (!sameBytes(found, log.root)) throw altered('the tree has another root than when it was written')
      return (await signer(log)).signCheckpoint({ origin: name, size, root: toBase64(found) })
    },
    async entries(from, to) {
      const numbers = new Set<number>()
      for (let at = from; at < to; at++) numbers.add(Math.floor(at / TILE_WIDTH))
      const places = [...numbers].flatMap((number) => [
        { level: ENTRY_LEVEL, number },
        { level: 0, number },
      ])
      const tiles = new Map((await readTiles(db, places)).map((tile) => [keyOf(tile), hashesOf(tile)]))
      return Array.from({ length: Math.max(0, to - from) }, (_, at) => {
        const index = from + at
        const [number, place] = [Math.floor(index / TILE_WIDTH), index % TILE_WIDTH]
        const digest = tiles.get(keyOf({ level: ENTRY_LEVEL, number }))?.[place]
        const hash = tiles.get(keyOf({ level: 0, number }))?.[place]
        if (digest === undefined || hash === undefined) throw altered(`entry ${index} is missing`)
        if (!sameBytes(leafHash(digest, sha256), hash))
          throw altered(`entry ${index} is not the leaf that is in the tree`)
        return { index, digest, leafHash: hash }
      })
    },
    inclusion: (index, size) => hashes(inclusionPath(index, size)),
    consistency: (from, to) => hashes(consistencyPath(from, to)),
  }
}

function keyOf({ level, number }: Pick<Tile, 'level' | 'number'>): string {
  return `${level}/${number}`
}

export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}

/** What the log has of a receipt. */
export function digestOf(payload: string): Uint8Array {
  return sha256(new TextEncoder().encode(payload))
}
