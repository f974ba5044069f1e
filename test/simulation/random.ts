/** The randomness of a run. The same seed gives the same values. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number
  /** A whole number from `least` to `most`, both included. */
  between(least: number, most: number): number
  /** True with this probability. */
  chance(probability: number): boolean
  pick<Item>(items: readonly Item[]): Item
  /** A UUID in the form of version 4. */
  uuid(): string
  /** A source whose values do not depend on later calls of this one. */
  fork(): Random
}

/** sfc32 by Chris Doty-Humphrey: small, fast and good enough for scenarios. */
export function createRandom(seed: number): Random {
  let a = seed | 0
  let b = (seed / 2 ** 32) | 0
  let c = 0x9e3779b9
  let counter = 1

  function next32(): number {
    const sum = (a + b + counter++) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + sum) | 0
    return sum >>> 0
  }
  // The first values of neighbouring seeds are similar, so they are skipped.
  for (let turn = 0; turn < 15; turn++) next32()

  const next = () => next32() / 2 ** 32
  const hex = (digits: number) => Array.from({ length: digits }, () => (next32() & 0xf).toString(16)).join('')
  return {
    next,
    between: (least, most) => least + Math.floor(next() * (most - least + 1)),
    chance: (probability) => next() < probability,
    pick<Item>(items: readonly Item[]): Item {
      if (items.length === 0) throw new Error('nothing to pick from')
      return items[Math.floor(next() * items.length)] as Item
    },
    uuid: () => `${hex(8)}-${hex(4)}-4${hex(3)}-8${hex(3)}-${hex(12)}`,
    fork: () => createRandom(next32() + next32() * 2 ** 21),
  }
}
