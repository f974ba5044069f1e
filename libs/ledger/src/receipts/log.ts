import { hash } from 'node:crypto'
import {
  appendEntries,
  hashesOfSpans,
  LedgerAlteredError,
  partialTiles,
  type Sha256,
  sameBytes,
  type Tile,
  type TilePlace,
} from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import type { Queryable } from '../postgres/database.ts'

/** A receipt log to create. */
export interface NewReceiptLog {
  /** The name of the log, which never changes. */
  readonly origin: string
  readonly kid: string
  readonly publicJwk: Readonly<Record<string, unknown>>
  /** Compact JWEs under the master key. */
  readonly sealedPrivateKey: string
  readonly sealedSubjectKey: string
}

/** The receipt log: a Merkle tree over the receipts. */
export interface ReceiptLog extends NewReceiptLog {
  /** Number of leaves. */
  readonly size: number
  /** Root of the tree, as of the last append. */
  readonly root: Uint8Array
}

const COLUMNS = `origin, size, root, kid, public_jwk as "publicJwk", sealed_private_key as "sealedPrivateKey",
  sealed_subject_key as "sealedSubjectKey"`
const FIND_LOG = `select ${COLUMNS} from receipt_log`
const LOCK_LOG = `select ${COLUMNS} from receipt_log for update`
const BEGIN_LOG = `
  insert into receipt_log (origin, root, kid, public_jwk, sealed_private_key, sealed_subject_key)
  values ($1, $2, $3, $4, $5, $6) on conflict (only_row) do nothing`

/** Reads the receipt log, and creates it if there is none. @param begin makes its keys. */
export async function openReceiptLog(
  db: Queryable,
  begin: () => Promise<NewReceiptLog>,
): Promise<ReceiptLog> {
  return (await read(db, FIND_LOG)) ?? (await beginLog(db, begin, FIND_LOG))
}

/** Reads or creates the receipt log, and locks it against other appends until the transaction ends. */
export async function lockReceiptLog(
  transaction: Queryable,
  begin: () => Promise<NewReceiptLog>,
): Promise<ReceiptLog> {
  return (await read(transaction, LOCK_LOG)) ?? (await beginLog(transaction, begin, LOCK_LOG))
}

async function beginLog(
  db: Queryable,
  begin: () => Promise<NewReceiptLog>,
  statement: string,
): Promise<ReceiptLog> {
  const { origin, kid, publicJwk, sealedPrivateKey, sealedSubjectKey } = await begin()
  const emptyRoot = sha256(new Uint8Array(0))
  await db.query(BEGIN_LOG, [origin, emptyRoot, kid, publicJwk, sealedPrivateKey, sealedSubjectKey])
  const log = await read(db, statement)
  if (log === null) throw new Error('the receipt log could not be created: the table receipt_log has no row')
  return log
}

async function read(db: Queryable, text: string): Promise<ReceiptLog | null> {
  const { rows } = await db.query<ReceiptLog>(text)
  return rows[0] ?? null
}

// The join leaves out missing tiles: the caller that needs one fails.
const READ_TILES = `
  select t.level, t.number, t.hashes
    from unnest($1::smallint[], $2::bigint[]) as wanted(level, number)
    join log_tiles t using (level, number)`

/** Reads the tiles at `places` that exist, in any order. */
export async function readTiles(db: Queryable, places: readonly TilePlace[]): Promise<readonly Tile[]> {
  if (places.length === 0) return []
  const { rows } = await db.query<Tile>({
    name: 'read_tiles',
    text: READ_TILES,
    values: [plainArray(places.map(({ level }) => level)), plainArray(places.map(({ number }) => number))],
  })
  return rows
}

const WRITE_TILES = `
  insert into log_tiles (level, number, hashes)
  select level, number, decode(hashes, 'hex')
    from unnest($1::smallint[], $2::bigint[], $3::text[]) as t(level, number, hashes)
  on conflict (level, number) do update set hashes = excluded.hashes`
const ADVANCE_LOG = 'update receipt_log set size = $1, root = $2'

/**
 * Appends entries to the receipt log, which the transaction has locked.
 *
 * @param entries hashes of 32 bytes.
 * @throws {LedgerAlteredError} if the stored tiles do not have the stored root. To append would vouch for altered tiles.
 */
export async function appendToLog(
  transaction: Queryable,
  { size, root }: Pick<ReceiptLog, 'size' | 'root'>,
  entries: readonly Uint8Array[],
): Promise<void> {
  const growing = await readTiles(transaction, partialTiles(size))
  try {
    if (!sameBytes(rootOf(size, growing), root))
      throw new RangeError('their root differs from the stored root')
    const tiles = appendEntries({ size, growing, entries }, sha256)
    const after = size + entries.length
    const values = [
      plainArray(tiles.map(({ level }) => level)),
      plainArray(tiles.map(({ number }) => number)),
      plainArray(tiles.map(({ hashes }) => Buffer.from(hashes).toString('hex'))),
    ]
    await transaction.query({ name: 'write_tiles', text: WRITE_TILES, values })
    await transaction.query({
      name: 'advance_log',
      text: ADVANCE_LOG,
      values: [after, rootOf(after, newest(after, growing, tiles))],
    })
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    const message = `the tiles of the receipt log were altered: ${error.message}; check the log with curfew log verify`
    throw new LedgerAlteredError(message, { cause: error })
  }
}

/** Computes the root of a log from the tiles that are still growing. */
function rootOf(size: number, growing: readonly Tile[]): Uint8Array {
  const [root = sha256(new Uint8Array(0))] = hashesOfSpans([{ begin: 0, end: size }], growing, sha256)
  return root
}

/** Picks the growing tiles of a log of `size`: the changed tile if there is one, otherwise the tile before. */
function newest(size: number, before: readonly Tile[], changed: readonly Tile[]): readonly Tile[] {
  return partialTiles(size).flatMap(({ level, number }) => {
    const same = (tile: TilePlace) => tile.level === level && tile.number === number
    return changed.find(same) ?? before.find(same) ?? []
  })
}

const sha256: Sha256 = (data) => hash('sha256', data, 'buffer')
