import {
  HASH_BYTES,
  hashOfSubtrees,
  leafHash,
  nodeHash,
  type Sha256,
  type Span,
  type Subtree,
  subtreesOf,
} from './merkle.ts'

// A Merkle log stored as tiles (C2SP tlog-tiles). A tile of level 0 has the hashes of 256 leaves. A tile of a higher level has
// the hashes of 256 full tiles of the level below. Only the last tile of a level may be partial, and only it grows. The entries
// behind the leaves are hashes as well, in tiles of level -1.

/** Hashes in a full tile. */
export const TILE_WIDTH = 256
/** The level of the tiles with the entries. */
export const ENTRY_LEVEL = -1
/** Levels of the tree from the hashes of a tile to the hash of the whole tile. */
const TILE_LEVELS = 8

/** The place of a tile: its level, and its number within the level. */
export interface TilePlace {
  readonly level: number
  readonly number: number
}

export interface Tile extends TilePlace {
  /** The concatenated hashes, at most `TILE_WIDTH` of them. */
  readonly hashes: Uint8Array
}

/** The partial tiles of a log of `size`, at most one for each level. */
export function partialTiles(size: number): readonly TilePlace[] {
  const places: TilePlace[] = []
  for (let [level, hashes] = [0, size]; hashes > 0; level++) {
    const number = Math.floor(hashes / TILE_WIDTH)
    if (hashes % TILE_WIDTH > 0) places.push({ level, number })
    if (hashes % TILE_WIDTH > 0 && level === 0) places.push({ level: ENTRY_LEVEL, number })
    hashes = number
  }
  return places
}

/**
 * Appends entries to a log of `size`.
 *
 * @param growing the tiles that `partialTiles` names, as stored.
 * @param entries the new entries, 32 bytes each.
 * @returns every tile that is new or has more hashes than before.
 * @throws {RangeError} if one of `growing` is missing or has the wrong length.
 */
export function appendEntries(
  { size, growing, entries }: { size: number; growing: readonly Tile[]; entries: readonly Uint8Array[] },
  sha256: Sha256,
): readonly Tile[] {
  const changed = [...grown(ENTRY_LEVEL, size, growing, entries)]
  let [hashes, before] = [entries.map((entry) => leafHash(entry, sha256)), size]
  for (let level = 0; hashes.length > 0; level++) {
    const tiles = grown(level, before, growing, hashes)
    changed.push(...tiles)
    hashes = tiles
      .map(hashesOf)
      .flatMap((full) => (full.length === TILE_WIDTH ? [wholeHash(full, sha256)] : []))
    before = Math.floor(before / TILE_WIDTH)
  }
  return changed
}

/** The tiles that change when `hashes` are appended to a level with `before` hashes. */
function grown(
  level: number,
  before: number,
  growing: readonly Tile[],
  hashes: readonly Uint8Array[],
): readonly Tile[] {
  const tiles: Tile[] = []
  let number = Math.floor(before / TILE_WIDTH)
  let held = hashesOf(growing.find((tile) => tile.level === level && tile.number === number))
  if (held.length !== before % TILE_WIDTH)
    throw new RangeError(
      `tile ${level}/${number} has ${held.length} hashes, and must have ${before % TILE_WIDTH}`,
    )
  for (let at = 0; at < hashes.length; ) {
    const taken = hashes.slice(at, at + TILE_WIDTH - held.length)
    tiles.push({ level, number, hashes: joined([...held, ...taken]) })
    at += taken.length
    number += 1
    held = []
  }
  return tiles
}

/** The place of the hashes that make up a subtree's hash: `count` hashes of one tile, starting with the `first`. */
function placeOf({ level, index }: Subtree): TilePlace & { readonly first: number; readonly count: number } {
  const tileLevel = Math.floor(level / TILE_LEVELS)
  const count = 2 ** (level % TILE_LEVELS)
  const start = index * count
  return { level: tileLevel, number: Math.floor(start / TILE_WIDTH), first: start % TILE_WIDTH, count }
}

/** The distinct tiles that contain the hashes of `spans`. */
export function tilesOfSpans(spans: readonly Span[]): readonly TilePlace[] {
  const places = new Map<string, TilePlace>()
  for (const subtree of spans.flatMap(subtreesOf)) {
    const { level, number } = placeOf(subtree)
    places.set(`${level}/${number}`, { level, number })
  }
  return [...places.values()]
}

/**
 * Reads the hashes of `spans` from tiles.
 *
 * @throws {RangeError} if a tile is missing or too short, because it was altered or the span is not yet in the log.
 */
export function hashesOfSpans(
  spans: readonly Span[],
  tiles: readonly Tile[],
  sha256: Sha256,
): readonly Uint8Array[] {
  const byPlace = new Map(tiles.map((tile) => [`${tile.level}/${tile.number}`, tile]))
  const hashOf = (subtree: Subtree) => {
    const { level, number, first, count } = placeOf(subtree)
    const hashes = hashesOf(byPlace.get(`${level}/${number}`)).slice(first, first + count)
    if (hashes.length < count) throw new RangeError(`tile ${level}/${number} is missing or too short`)
    return wholeHash(hashes, sha256)
  }
  return spans.map((span) => hashOfSubtrees(subtreesOf(span).map(hashOf), sha256))
}

/** The hashes of a tile; empty without a tile. */
export function hashesOf(tile: Pick<Tile, 'hashes'> | undefined): readonly Uint8Array[] {
  const { hashes } = tile ?? { hashes: new Uint8Array(0) }
  const count = Math.floor(hashes.length / HASH_BYTES)
  return Array.from({ length: count }, (_, at) => hashes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES))
}

/** The root hash of a full subtree, from its hashes, whose number is a power of two. */
function wholeHash(hashes: readonly Uint8Array[], sha256: Sha256): Uint8Array {
  const [first, ...rest] = hashes
  if (first === undefined) throw new RangeError('a subtree needs at least one hash')
  if (rest.length === 0) return first
  const middle = hashes.length / 2
  return nodeHash(wholeHash(hashes.slice(0, middle), sha256), wholeHash(hashes.slice(middle), sha256), sha256)
}

function joined(hashes: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(hashes.length * HASH_BYTES)
  for (const [at, hash] of hashes.entries()) bytes.set(hash, at * HASH_BYTES)
  return bytes
}
