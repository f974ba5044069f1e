import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  appendEntries,
  ENTRY_LEVEL,
  hashesOfSpans,
  partialTiles,
  type Tile,
  hashesOf as tileHashes,
  tilesOfSpans,
} from './log-tiles.ts'
import {
  consistencyPath,
  createPartialTree,
  hashOfSubtrees,
  inclusionPath,
  leafHash,
  nodeHash,
  type Sha256,
  type Span,
  subtreesOf,
  verifyConsistency,
  verifyInclusion,
} from './merkle.ts'

// Goal: our log is a standard Merkle tree. Any verifier accepts our proofs, and ours accepts no wrong proof.
// Method: the shared test vectors of Certificate Transparency, and the definitions of RFC 9162 section 2.1 as a model.

const sha256: Sha256 = (data) => createHash('sha256').update(data).digest()
const hex = (text: string) => Buffer.from(text, 'hex')

/** RFC 9162 section 2.1.1. */
function treeHash(leaves: readonly Uint8Array[]): Uint8Array {
  const [only] = leaves
  if (only === undefined) return sha256(new Uint8Array(0))
  if (leaves.length === 1) return leafHash(only, sha256)
  const split = splitOf(leaves.length)
  return nodeHash(treeHash(leaves.slice(0, split)), treeHash(leaves.slice(split)), sha256)
}

/** RFC 9162 section 2.1.3.1. */
function inclusionProof(index: number, leaves: readonly Uint8Array[]): Uint8Array[] {
  if (leaves.length <= 1) return []
  const split = splitOf(leaves.length)
  const [left, right] = [leaves.slice(0, split), leaves.slice(split)]
  return index < split
    ? [...inclusionProof(index, left), treeHash(right)]
    : [...inclusionProof(index - split, right), treeHash(left)]
}

/** RFC 9162 section 2.1.4.1. */
function consistencyProof(from: number, leaves: readonly Uint8Array[], known = true): Uint8Array[] {
  if (from === leaves.length) return known ? [] : [treeHash(leaves)]
  const split = splitOf(leaves.length)
  const [left, right] = [leaves.slice(0, split), leaves.slice(split)]
  return from <= split
    ? [...consistencyProof(from, left, known), treeHash(right)]
    : [...consistencyProof(from - split, right, false), treeHash(left)]
}

function splitOf(count: number): number {
  let split = 1
  while (split * 2 < count) split *= 2
  return split
}

const LEAVES = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
]
const ROOTS = [
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
]
const INCLUSION = [
  { index: 0, size: 1, proof: [] },
  {
    index: 0,
    size: 8,
    proof: [
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ],
  },
  {
    index: 5,
    size: 8,
    proof: [
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ],
  },
  { index: 2, size: 3, proof: ['fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'] },
  {
    index: 1,
    size: 5,
    proof: [
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
    ],
  },
]
const CONSISTENCY = [
  { from: 1, to: 1, proof: [] },
  {
    from: 1,
    to: 8,
    proof: [
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ],
  },
  {
    from: 6,
    to: 8,
    proof: [
      '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ],
  },
  {
    from: 2,
    to: 5,
    proof: [
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
    ],
  },
]

/** The hashes of spans, computed from the leaves. */
function hashesOf(spans: readonly Span[], leaves: readonly Uint8Array[]): Uint8Array[] {
  return spans.map(({ begin, end }) => treeHash(leaves.slice(begin, end)))
}

describe('the shared vectors of Certificate Transparency are met by', () => {
  const leaves = LEAVES.map(hex)

  test.each(ROOTS.map((root, size) => ({ root, size })))('the root of $size leaves', ({ root, size }) => {
    const hashes = subtreesOf({ begin: 0, end: size }).map(({ level, index }) =>
      treeHash(leaves.slice(index * 2 ** level, (index + 1) * 2 ** level)),
    )
    expect(Buffer.from(hashOfSubtrees(hashes, sha256)).toString('hex')).toBe(root)
  })

  test.each(INCLUSION)('the proof of leaf $index in the tree of $size', ({ index, size, proof }) => {
    const made = hashesOf(inclusionPath(index, size), leaves.slice(0, size))
    expect(made.map((hash) => Buffer.from(hash).toString('hex'))).toEqual(proof)
    const leaf = leafHash(hex(LEAVES[index] ?? ''), sha256)
    const claim = { index, size, hash: leaf, proof: proof.map(hex), root: hex(ROOTS[size] ?? '') }
    expect(verifyInclusion(claim, sha256)).toBe(true)
  })

  test.each(CONSISTENCY)(
    'the proof that the tree of $to begins with the tree of $from',
    ({ from, to, proof }) => {
      const made = hashesOf(consistencyPath(from, to), leaves.slice(0, to))
      expect(made.map((hash) => Buffer.from(hash).toString('hex'))).toEqual(proof)
      const [fromRoot, toRoot] = [hex(ROOTS[from] ?? ''), hex(ROOTS[to] ?? '')]
      expect(verifyConsistency({ from, fromRoot, to, toRoot, proof: proof.map(hex) }, sha256)).toBe(true)
    },
  )
})

const tree = fc
  .array(fc.uint8Array({ minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 40 })
  .chain((leaves) => fc.record({ leaves: fc.constant(leaves), at: fc.nat({ max: leaves.length - 1 }) }))

describe('proofs', () => {
  test('of inclusion match the definition and are accepted', () => {
    fc.assert(
      fc.property(tree, ({ leaves, at }) => {
        const proof = hashesOf(inclusionPath(at, leaves.length), leaves)
        expect(proof).toEqual(inclusionProof(at, leaves))
        const hash = leafHash(leaves[at] ?? new Uint8Array(0), sha256)
        const claim = { index: at, size: leaves.length, hash, proof, root: treeHash(leaves) }
        expect(verifyInclusion(claim, sha256)).toBe(true)
      }),
    )
  })

  test('of consistency match the definition and are accepted', () => {
    fc.assert(
      fc.property(tree, ({ leaves, at }) => {
        const from = at + 1
        const proof = hashesOf(consistencyPath(from, leaves.length), leaves)
        expect(proof).toEqual(consistencyProof(from, leaves))
        const [fromRoot, toRoot] = [treeHash(leaves.slice(0, from)), treeHash(leaves)]
        expect(verifyConsistency({ from, fromRoot, to: leaves.length, toRoot, proof }, sha256)).toBe(true)
      }),
    )
  })

  test('of inclusion are refused if any part differs', () => {
    fc.assert(
      fc.property(tree, fc.nat(), fc.nat({ max: 255 }), ({ leaves, at }, which, bit) => {
        const proof = inclusionProof(at, leaves)
        const claim = {
          index: at,
          size: leaves.length,
          hash: leafHash(leaves[at] ?? new Uint8Array(0), sha256),
          proof,
          root: treeHash(leaves),
        }
        const place = which % (proof.length + 1)
        const forged = proof.map((hash, index) => (index === place ? flipped(hash, bit) : hash))
        if (place < proof.length) expect(verifyInclusion({ ...claim, proof: forged }, sha256)).toBe(false)
        expect(verifyInclusion({ ...claim, root: flipped(claim.root, bit) }, sha256)).toBe(false)
        expect(verifyInclusion({ ...claim, hash: flipped(claim.hash, bit) }, sha256)).toBe(false)
        expect(verifyInclusion({ ...claim, proof: [...proof, claim.root] }, sha256)).toBe(false)
        expect(verifyInclusion({ ...claim, proof: proof.slice(1) }, sha256)).toBe(proof.length === 0)
        expect(verifyInclusion({ ...claim, index: leaves.length }, sha256)).toBe(false)
      }),
    )
  })

  test('of consistency are refused if any part differs', () => {
    fc.assert(
      fc.property(tree, fc.nat(), fc.nat({ max: 255 }), ({ leaves, at }, which, bit) => {
        const [from, to] = [at + 1, leaves.length]
        const proof = consistencyProof(from, leaves)
        const claim = { from, to, proof, fromRoot: treeHash(leaves.slice(0, from)), toRoot: treeHash(leaves) }
        const forged = proof.map((hash, index) =>
          index === which % proof.length ? flipped(hash, bit) : hash,
        )
        if (proof.length > 0) expect(verifyConsistency({ ...claim, proof: forged }, sha256)).toBe(false)
        expect(verifyConsistency({ ...claim, fromRoot: flipped(claim.fromRoot, bit) }, sha256)).toBe(false)
        expect(verifyConsistency({ ...claim, toRoot: flipped(claim.toRoot, bit) }, sha256)).toBe(false)
        expect(verifyConsistency({ ...claim, proof: [...proof, claim.toRoot] }, sha256)).toBe(false)
        expect(verifyConsistency({ ...claim, from: to + 1 }, sha256)).toBe(false)
      }),
    )
  })

  test('a tree that grows leaf by leaf has the defined root at every size', () => {
    fc.assert(
      fc.property(tree, ({ leaves }) => {
        const growing = createPartialTree(sha256)
        for (const [at, leaf] of leaves.entries()) {
          growing.add(leafHash(leaf, sha256))
          expect(growing.root()).toEqual(treeHash(leaves.slice(0, at + 1)))
        }
      }),
    )
    expect(createPartialTree(sha256).root()).toEqual(treeHash([]))
  })

  test('a tree begins with the empty tree, and with no other tree of size 0', () => {
    const toRoot = treeHash([hex('00')])
    const claim = { from: 0, to: 1, toRoot, proof: [] }
    expect(verifyConsistency({ ...claim, fromRoot: treeHash([]) }, sha256)).toBe(true)
    expect(verifyConsistency({ ...claim, fromRoot: toRoot }, sha256)).toBe(false)
  })

  test('of a log with 2^52 leaves have 52 hashes', () => {
    expect(inclusionPath(2 ** 52 - 2, 2 ** 52)).toHaveLength(52)
    expect(subtreesOf({ begin: 0, end: 2 ** 52 - 1 })).toHaveLength(52)
  })
})

describe('tiles', () => {
  test('give the roots and proofs of the appended leaves, for batches of any size', () => {
    const batches = fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 5 })
    fc.assert(
      fc.property(batches, fc.nat(), (sizes, which) => {
        const tiles = new Map<string, Tile>()
        const leaves: Uint8Array[] = []
        for (const count of sizes) {
          const entries = Array.from({ length: count }, (_, at) =>
            sha256(Buffer.from(`${leaves.length + at}`)),
          )
          const growing = partialTiles(leaves.length).flatMap(
            ({ level, number }) => tiles.get(`${level}/${number}`) ?? [],
          )
          const changed = appendEntries({ size: leaves.length, growing, entries }, sha256)
          for (const tile of changed) tiles.set(`${tile.level}/${tile.number}`, tile)
          leaves.push(...entries)
        }
        const [size, index] = [leaves.length, which % leaves.length]
        const read = (spans: readonly Span[]) => {
          const needed = tilesOfSpans(spans).flatMap(
            ({ level, number }) => tiles.get(`${level}/${number}`) ?? [],
          )
          return hashesOfSpans(spans, needed, sha256).map((hash) => Buffer.from(hash).toString('hex'))
        }
        const toHex = (hashes: readonly Uint8Array[]) =>
          hashes.map((hash) => Buffer.from(hash).toString('hex'))
        const entryTile = tiles.get(`${ENTRY_LEVEL}/${Math.floor(index / 256)}`)
        expect(tileHashes(entryTile)[index % 256]).toEqual(new Uint8Array(leaves[index] ?? []))
        expect(read([{ begin: 0, end: size }])).toEqual(toHex([treeHash(leaves)]))
        expect(read(inclusionPath(index, size))).toEqual(toHex(inclusionProof(index, leaves)))
        expect(read(consistencyPath(index + 1, size))).toEqual(toHex(consistencyProof(index + 1, leaves)))
      }),
      { numRuns: 25 },
    )
  })

  test('are refused if one is missing', () => {
    const entries = [sha256(hex('00'))]
    expect(() => appendEntries({ size: 3, growing: [], entries }, sha256)).toThrow(RangeError)
    expect(() => hashesOfSpans([{ begin: 0, end: 3 }], [], sha256)).toThrow(RangeError)
  })
})

function flipped(hash: Uint8Array, bit: number): Uint8Array {
  return hash.map((byte, at) => (at === Math.floor(bit / 8) ? byte ^ (1 << (bit % 8)) : byte))
}
