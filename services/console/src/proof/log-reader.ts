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
  /** The name of the receipt log if this service creates it; null for a generated name. */
  readonly origin: string | null
  readonly log: Log
  /** Called for each request that failed because the ledger was altered. */
  readonly onAltered: () => void
}

/** One leaf of the receipt log: the SHA-256 of a receipt, and its leaf hash in the tree. */
export interface Entry {
  readonly index: number
  readonly digest: Uint8Array
  readonly leafHash: Uint8Array
}

/**
 * Reads the receipt log and verifies it. If it was altered, the result is a problem: Curfew does not sign altered data.
 */
export interface LogReader {
  head(): Promise<ReceiptLog>
  signer(log: ReceiptLog): Promise<LogSigner>
  /** The signed checkpoint of the log. */
  checkpoint(log: ReceiptLog): Promise<string>
  /** The entries from `from` to before `to`, which must be within the log. */
  entries(from: number, to: number): Promise<readonly Entry[]>
  inclusion(index: number, size: number): Promise<readonly Uint8Array[]>
  consistency(from: number, to: number): Promise<readonly Uint8Array[]>
  root(size: number): Promise<Uint8Array>
  /** Logs that the ledger was altered, and makes the problem to answer with. */
  altered(detail: string): ProblemError
}

export function createLogReader({ db, keeper, origin, log: logger, onAltered }: LogReaderDeps): LogReader {
  let warned = false

  function altered(detail: string): ProblemError {
    onAltered()
    logger.error({ event: 'ledger.altered', detail })
    return new ProblemError({
      status: 500,
      title: 'The ledger was altered',
      detail: `The stored data contradicts the receipt log: ${detail}. Run curfew log verify to find all contradictions.`,
    })
  }

  async function hashes(spans: readonly Span[]): Promise<readonly Uint8Array[]> {
    const tiles = await readTiles(db, tilesOfSpans(spans))
    return reading(() => hashesOfSpans(spans, tiles, sha256))
  }

  /** Runs `read`. @throws a 500 problem if tiles are missing or incomplete. */
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
          title: 'The receipt log cannot be signed',
          detail:
            'The keys of the receipt log are sealed with another key than the CURFEW_MASTER_KEY of this service. Start the service with the CURFEW_MASTER_KEY with which they were stored.',
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
        logger.error({ event: 'log.origin_kept', origin: log.origin, configured: origin })
        warned = true
      }
      return log
    },
    async checkpoint(log) {
      const { origin: name, size } = log
      const found = await root(size)
      if (!sameBytes(found, log.root)) throw altered('the root of the tree differs from the recorded root')
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
          throw altered(`entry ${index} differs from its leaf in the tree`)
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

/** The digest of a receipt in the log. */
export function digestOf(payload: string): Uint8Array {
  return sha256(new TextEncoder().encode(payload))
}
