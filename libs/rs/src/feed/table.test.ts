import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createTable, keyOf } from './table.ts'

// Goal: the table keeps the latest time of every key, whatever the keys are.
// Method: properties against a Map. The keys differ in few bits, so that their places collide.

const key = (number: number) => {
  const bytes = Buffer.alloc(16)
  bytes.writeUInt32LE(number % 8, 12 - (number % 4) * 4)
  bytes.writeUInt8(number >> 3, 15)
  return bytes
}
const KEYS = fc.integer({ min: 0, max: 60 })
const PUTS = fc.array(fc.tuple(KEYS, fc.integer({ min: 1, max: 50 })), { maxLength: 100 })
const modelOf = (puts: readonly (readonly [number, number])[]) => {
  const model = new Map<string, number>()
  for (const [number, before] of puts) {
    const text = key(number).toString('hex')
    model.set(text, Math.max(before, model.get(text) ?? 0))
  }
  return model
}

test('every key has its latest time, and no other key has one', () => {
  fc.assert(
    fc.property(PUTS, fc.double({ min: 0, max: 0.999, noNaN: true }), (puts, random) => {
      const table = createTable(() => random)
      for (const [number, before] of puts) table.put(key(number), before)
      const model = modelOf(puts)
      for (let number = 0; number <= 60; number++)
        expect(table.get(key(number))).toBe(model.get(key(number).toString('hex')) ?? 0)
      expect(table.size).toBe(model.size)
    }),
  )
})

test('put says whether the entry is news', () => {
  const table = createTable(Math.random)
  expect([table.put(key(1), 5), table.put(key(1), 5), table.put(key(1), 4), table.put(key(1), 6)]).toEqual([
    true,
    false,
    false,
    true,
  ])
})

test('an entry that is not over is never forgotten, and memory shrinks when most are over', () => {
  const table = createTable(Math.random)
  const keys = Array.from({ length: 50_000 }, () => randomBytes(16))
  for (const [index, each] of keys.entries()) table.put(each, index + 1)
  const full = table.bytes
  table.forget(40_001)
  for (const [index, each] of keys.entries()) if (index >= 40_000) expect(table.get(each)).toBe(index + 1)
  expect(table.size).toBe(10_000)
  expect(table.bytes).toBeLessThan(full)
})

test('entries that are over stay below a quarter of the entries', () => {
  const table = createTable(Math.random)
  for (let second = 1; second <= 5_000; second++) {
    table.put(randomBytes(16), second)
    table.forget(second - 100)
    expect(table.size).toBeLessThanOrEqual(140)
  }
})

test('a key is the start of SHA-256 over issuer, kind and value, each ended by a zero byte', () => {
  // Computed with: printf 'https://idp.example\\0sid\\0s1\\0' | openssl dgst -sha256 -binary | head -c 16
  expect(keyOf('https://idp.example', 'sid', 's1').subarray(0, 16).toString('base64url')).toBe(
    'nKPPu_PpUzjEiHb1q37I0w',
  )
  expect(keyOf('https://idp.example', 'sid', 's1')).not.toEqual(keyOf('https://idp.example', 'sub', 's1'))
})
