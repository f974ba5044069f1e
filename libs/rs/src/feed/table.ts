import { hash } from 'node:crypto'

/** A slot has the four words of a key and its time. Time 0: the slot is free. */
const SLOT_WORDS = 5
const TIME = 4
const CAPACITY_MIN = 1_024
const LOAD_MAX = 0.75
/** The table is built again when this share of its entries is over. */
const OVER_SHARE = 0.25

/** Entries by key, in one typed array: 27 to 54 bytes for each of many entries, and none of them is an object. */
export interface Table {
  readonly size: number
  /** The memory of the entries, in bytes. */
  readonly bytes: number
  /** Makes room for this many entries in all. */
  reserve(entries: number): void
  /** Keeps the later of two times of a key. @param before in whole seconds since 1970, from 1. @returns whether it is news. */
  put(key: Buffer, before: number): boolean
  /** The time of a key; 0 if there is none. */
  get(key: Buffer): number
  /** Forgets the entries with an earlier time, if they are many enough to be worth it. Forgets all of them by and by. */
  forget(earlierThan: number): void
}

/** The key of an entry. It says nothing about the value. */
export function keyOf(issuer: string, kind: 'sid' | 'sub', value: string): Buffer {
  return hash('sha256', `${issuer}\0${kind}\0${value}\0`, 'buffer')
}

/** @param random gives numbers from 0 to 1. They keep the places of entries secret, so that no choice of names makes them collide. */
export function createTable(random: () => number): Table {
  const oddNumber = () => Math.floor(random() * 2 ** 32) | 1
  const [factor, otherFactor] = [oddNumber(), oddNumber()]
  let slots = new Uint32Array(CAPACITY_MIN * SLOT_WORDS)
  let mask = CAPACITY_MIN - 1
  let shift = Math.clz32(mask)
  let size = 0

  /** The position of a key, or of the free slot where it belongs. */
  function find(first: number, second: number, third: number, fourth: number): number {
    let slot = (Math.imul(first, factor) + Math.imul(second, otherFactor)) >>> shift
    for (;;) {
      const at = slot * SLOT_WORDS
      if (slots[at + TIME] === 0) return at
      if (
        slots[at] === first &&
        slots[at + 1] === second &&
        slots[at + 2] === third &&
        slots[at + 3] === fourth
      )
        return at
      slot = (slot + 1) & mask
    }
  }

  const findKey = (key: Buffer) =>
    find(key.readUInt32LE(0), key.readUInt32LE(4), key.readUInt32LE(8), key.readUInt32LE(12))

  function rebuild(capacity: number, earliest: number): void {
    const old = slots
    slots = new Uint32Array(capacity * SLOT_WORDS)
    mask = capacity - 1
    shift = Math.clz32(mask)
    size = 0
    for (let from = 0; from < old.length; from += SLOT_WORDS) {
      const before = old[from + TIME] ?? 0
      if (before === 0 || before < earliest) continue
      const at = find(old[from] ?? 0, old[from + 1] ?? 0, old[from + 2] ?? 0, old[from + 3] ?? 0)
      for (let word = 0; word < SLOT_WORDS; word++) slots[at + word] = old[from + word] ?? 0
      size++
    }
  }

  return {
    get size() {
      return size
    },
    get bytes() {
      return slots.byteLength
    },
    reserve(entries) {
      if (entries > (mask + 1) * LOAD_MAX) rebuild(capacityFor(entries), 0)
    },
    put(key, before) {
      const at = findKey(key)
      const known = slots[at + TIME] ?? 0
      if (before <= known) return false
      if (known > 0) {
        slots[at + TIME] = before
        return true
      }
      for (let word = 0; word < TIME; word++) slots[at + word] = key.readUInt32LE(word * 4)
      slots[at + TIME] = before
      size++
      if (size > (mask + 1) * LOAD_MAX) rebuild((mask + 1) * 2, 0)
      return true
    },
    get: (key) => slots[findKey(key) + TIME] ?? 0,
    forget(earlierThan) {
      let over = 0
      for (let at = TIME; at < slots.length; at += SLOT_WORDS) {
        const before = slots[at] ?? 0
        if (before > 0 && before < earlierThan) over++
      }
      if (over > 0 && over >= size * OVER_SHARE) rebuild(capacityFor(size - over), earlierThan)
    },
  }
}

function capacityFor(entries: number): number {
  return Math.max(CAPACITY_MIN, 2 ** Math.ceil(Math.log2((entries + 1) / LOAD_MAX)))
}
