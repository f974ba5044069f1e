import { createRequire } from 'node:module'
import { afterEach, expect, test, vi } from 'vitest'
import { readHeadersInOnePass } from './record-headers.ts'

// Goal: the time to read a record is proportional to the number of its headers, and the headers keep their meaning.
// Method: kafkajs's own encoder and decoder.

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
  // Skips the length, which the decoder of the batch reads.
  decoder.readVarInt()
  return decode(decoder, { firstOffset: '0', firstTimestamp: '0', magicByte: 2 }).headers
}

test('headers, even repeated ones, read as with the original of kafkajs', () => {
  const headers = { ce_id: 'one', many: ['a', 'b', 'c'] }
  const before = { ...decoded(headers) }
  readHeadersInOnePass()
  expect({ ...decoded(headers) }).toEqual(before)
  expect(decoded({})).toEqual({})
})

test('no header is copied once for each of the others', () => {
  readHeadersInOnePass()
  // The reducer of kafkajs copies all headers for each header.
  const reduced = vi.spyOn(Array.prototype, 'reduce')
  const names = Array.from({ length: 200 }, (_, number) => [`header-${number}`, 'x'] as const)
  expect(Object.keys(decoded(Object.fromEntries(names)))).toHaveLength(200)
  expect(reduced.mock.contexts.map((array) => (array as unknown[]).length)).not.toContain(200)
})
