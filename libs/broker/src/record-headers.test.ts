import { createRequire } from 'node:module'
import { afterEach, expect, test, vi } from 'vitest'
import { readHeadersInOnePass } from './record-headers.ts'

// Goal: a record takes time in proportion to its headers, however many a foreign producer gives it, and means what it meant. Method:
// kafkajs's own encoder and decoder.

afterEach(() => vi.restoreAllMocks())

const load = createRequire(import.meta.url)
const encode = load('kafkajs/src/protocol/recordBatch/record/v0/index.js') as (record: object) => {
  readonly buffer: Buffer
}
const decode = load('kafkajs/src/protocol/recordBatch/record/v0/decoder.js') as (
  decoder: object,
  batch: object,
) => {
  readonly headers: Readonly<Record<string, Buffer | Buffer[]>>
}
const Decoder = load('kafkajs/src/protocol/decoder.js') as new (buffer: Buffer) => { readVarInt(): number }

function decoded(headers: object) {
  const decoder = new Decoder(
    encode({ offsetDelta: 0, timestampDelta: 0, key: 'k', value: 'v', headers }).buffer,
  )
  // The length, which the decoder of the batch reads.
  decoder.readVarInt()
  return decode(decoder, { firstOffset: '0', firstTimestamp: '0', magicByte: 2 }).headers
}

test('headers are read as kafkajs reads them, those that are repeated too', () => {
  const headers = { ce_id: 'one', many: ['a', 'b', 'c'] }
  const before = { ...decoded(headers) }
  readHeadersInOnePass()
  expect({ ...decoded(headers) }).toEqual(before)
  expect(decoded({})).toEqual({})
})

test('no header is copied for each of the others', () => {
  readHeadersInOnePass()
  // What kafkajs reduces them by copies all headers at each.
  const reduced = vi.spyOn(Array.prototype, 'reduce')
  const names = Array.from({ length: 200 }, (_, number) => [`header-${number}`, 'x'] as const)
  expect(Object.keys(decoded(Object.fromEntries(names)))).toHaveLength(200)
  expect(reduced.mock.contexts.map((array) => (array as unknown[]).length)).not.toContain(200)
})
