// Merkle trees of Certificate Transparency (RFC 9162 section 2.1). Sizes and indexes are below 2^53. They are halved by
// arithmetic, because JavaScript's bit operators handle only 32 bits.

/** SHA-256. A parameter, because the domain has no crypto. */
export type Sha256 = (data: Uint8Array) => Uint8Array

/** The leaves from `begin` to `end`, excluding `end`. */
export interface Span {
  readonly begin: number
  readonly end: number
}

/** A full subtree of 2^level leaves, which starts at leaf `index` times 2^level. Level 0 is a leaf. */
export interface Subtree {
  readonly level: number
  readonly index: number
}

export const HASH_BYTES = 32

/** The hash of a leaf (RFC 9162 section 2.1.1). Its first input byte distinguishes it from the hash of a node. */
export function leafHash(data: Uint8Array, sha256: Sha256): Uint8Array {
  const bytes = new Uint8Array(1 + data.length)
  bytes.set(data, 1)
  return sha256(bytes)
}

/** The hash of a node with two children (RFC 9162 section 2.1.1). */
export function nodeHash(left: Uint8Array, right: Uint8Array, sha256: Sha256): Uint8Array {
  const bytes = new Uint8Array(1 + left.length + right.length)
  bytes[0] = 1
  bytes.set(left, 1)
  bytes.set(right, 1 + left.length)
  return sha256(bytes)
}

/** The full subtrees that make up a span, from the left. The span must be a node of some tree. */
export function subtreesOf({ begin, end }: Span): readonly Subtree[] {
  const subtrees: Subtree[] = []
  for (let at = begin; at < end; ) {
    const level = Math.floor(Math.log2(end - at))
    // The logarithm of a large number just below a power of two may be rounded up.
    const fitting = 2 ** level > end - at ? level - 1 : level
    subtrees.push({ level: fitting, index: at / 2 ** fitting })
    at += 2 ** fitting
  }
  return subtrees
}

/** The hash of a span, from the hashes of its full subtrees in order. Without subtrees, it is the hash of the empty tree. */
export function hashOfSubtrees(hashes: readonly Uint8Array[], sha256: Sha256): Uint8Array {
  const last = hashes.at(-1)
  if (last === undefined) return sha256(new Uint8Array(0))
  return hashes.slice(0, -1).reduceRight((right, left) => nodeHash(left, right, sha256), last)
}

/**
 * The spans whose hashes prove that leaf `index` is in a tree of `size`, from the leaf up (RFC 9162 section 2.1.3.1).
 *
 * @throws {RangeError} if the leaf is not in the tree.
 */
export function inclusionPath(index: number, size: number): readonly Span[] {
  if (!(index >= 0 && index < size)) throw new RangeError(`leaf ${index} is not in a tree of ${size}`)
  const path: Span[] = []
  let [begin, end] = [0, size]
  while (end - begin > 1) {
    const middle = begin + splitOf(end - begin)
    if (index < middle) {
      path.unshift({ begin: middle, end })
      end = middle
    } else {
      path.unshift({ begin, end: middle })
      begin = middle
    }
  }
  return path
}

/**
 * The spans whose hashes prove that the tree of `to` begins with the tree of `from` (RFC 9162 section 2.1.4.1). Empty if `from`
 * is 0 or equals `to`, which need no proof.
 *
 * @throws {RangeError} if `from` is greater than `to`.
 */
export function consistencyPath(from: number, to: number): readonly Span[] {
  if (!(from >= 0 && from <= to)) throw new RangeError(`a tree of ${to} does not begin with one of ${from}`)
  if (from === 0 || from === to) return []
  const path: Span[] = []
  let [begin, end, known] = [0, to, true]
  while (from < end) {
    const middle = begin + splitOf(end - begin)
    if (from <= middle) {
      path.unshift({ begin: middle, end })
      end = middle
    } else {
      path.unshift({ begin, end: middle })
      begin = middle
      known = false
    }
  }
  return known ? path : [{ begin, end }, ...path]
}

/** A tree that grows leaf by leaf and keeps only the hashes that its root needs. */
export interface PartialTree {
  /** @param hash the hash of the next leaf. */
  add(hash: Uint8Array): void
  root(): Uint8Array
}

export function createPartialTree(sha256: Sha256): PartialTree {
  /** Full subtrees of different levels, the largest first. */
  const subtrees: { readonly level: number; readonly hash: Uint8Array }[] = []
  return {
    add(leaf) {
      let [level, hash] = [0, leaf]
      for (let last = subtrees.at(-1); last?.level === level; last = subtrees.at(-1)) {
        hash = nodeHash(last.hash, hash, sha256)
        level += 1
        subtrees.pop()
      }
      subtrees.push({ level, hash })
    },
    root: () =>
      hashOfSubtrees(
        subtrees.map(({ hash }) => hash),
        sha256,
      ),
  }
}

/** Whether `proof` shows that a leaf is at `index` in the tree of `size` with this root (RFC 9162 section 2.1.3.2). */
export function verifyInclusion(
  {
    index,
    size,
    hash,
    proof,
    root,
  }: { index: number; size: number; hash: Uint8Array; proof: readonly Uint8Array[]; root: Uint8Array },
  sha256: Sha256,
): boolean {
  if (!isSize(size) || !isSize(index) || index >= size || ![hash, root, ...proof].every(isHash)) return false
  let [place, last, result] = [index, size - 1, hash]
  for (const sibling of proof) {
    if (last === 0) return false
    if (isOdd(place) || place === last) {
      result = nodeHash(sibling, result, sha256)
      while (!isOdd(place) && place !== 0) [place, last] = [half(place), half(last)]
    } else {
      result = nodeHash(result, sibling, sha256)
    }
    ;[place, last] = [half(place), half(last)]
  }
  return last === 0 && sameBytes(result, root)
}

/** Whether `proof` shows that the tree of `to` leaves begins with the tree of `from` leaves (RFC 9162 section 2.1.4.2). */
export function verifyConsistency(
  {
    from,
    fromRoot,
    to,
    toRoot,
    proof,
  }: {
    from: number
    fromRoot: Uint8Array
    to: number
    toRoot: Uint8Array
    proof: readonly Uint8Array[]
  },
  sha256: Sha256,
): boolean {
  if (!isSize(from) || !isSize(to) || from > to || ![fromRoot, toRoot, ...proof].every(isHash)) return false
  if (from === to) return proof.length === 0 && sameBytes(fromRoot, toRoot)
  // Every tree begins with the empty tree.
  if (from === 0) return proof.length === 0 && sameBytes(fromRoot, sha256(new Uint8Array(0)))
  const [first, ...rest] = isPowerOfTwo(from) ? [fromRoot, ...proof] : proof
  if (first === undefined || proof.length === 0) return false
  let [place, last] = [from - 1, to - 1]
  while (isOdd(place)) [place, last] = [half(place), half(last)]
  let [older, newer] = [first, first]
  for (const sibling of rest) {
    if (last === 0) return false
    if (isOdd(place) || place === last) {
      older = nodeHash(sibling, older, sha256)
      newer = nodeHash(sibling, newer, sha256)
      while (!isOdd(place) && place !== 0) [place, last] = [half(place), half(last)]
    } else {
      newer = nodeHash(newer, sibling, sha256)
    }
    ;[place, last] = [half(place), half(last)]
  }
  return last === 0 && sameBytes(older, fromRoot) && sameBytes(newer, toRoot)
}

/** Whether two hashes are equal. The comparison takes no constant time, because hashes of the log are public. */
export function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at])
}

/** The largest power of two below `count`, for a `count` of at least 2. */
function splitOf(count: number): number {
  let power = 1
  while (power * 2 < count) power *= 2
  return power
}

function isPowerOfTwo(count: number): boolean {
  return splitOf(count + 1) === count
}

function isSize(count: number): boolean {
  return Number.isSafeInteger(count) && count >= 0
}

function isHash(bytes: Uint8Array): boolean {
  return bytes.length === HASH_BYTES
}

function isOdd(count: number): boolean {
  return count % 2 === 1
}

function half(count: number): number {
  return Math.floor(count / 2)
}
