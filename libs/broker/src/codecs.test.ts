import { randomBytes } from 'node:crypto'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import kafkajs from 'kafkajs'
import { compressFrameSync } from 'lz4-napi'
import { compressSync } from 'snappy'
import { expect, test } from 'vitest'
import { registerCodecs } from './codecs.ts'

// Goal: no batch exhausts the memory, however small it is when compressed. Method: batches of many zeros.

const { CompressionCodecs, CompressionTypes } = kafkajs
registerCodecs()
type Codec = keyof typeof CompressionCodecs
const decompress = (type: Codec, bytes: Buffer): Promise<Buffer> =>
  CompressionCodecs[type]().decompress(bytes)
const lengthOf = async (type: Codec, bytes: Buffer) => (await decompress(type, bytes)).length

const codecs = [
  ['gzip', CompressionTypes.GZIP, gzipSync],
  ['snappy', CompressionTypes.Snappy, compressSync],
  ['lz4', CompressionTypes.LZ4, compressFrameSync],
  ['zstd', CompressionTypes.ZSTD, zstdCompressSync],
] as const

test.each(codecs)('%s reads a batch of 60 MB and refuses one of 70 MB', async (_, type, compress) => {
  expect(await lengthOf(type, compress(Buffer.alloc(60_000_000)))).toBe(60_000_000)
  await expect(lengthOf(type, compress(Buffer.alloc(70_000_000)))).rejects.toThrow()
})

test.each([
  ['with checksums', { blockChecksums: true, contentChecksum: true }],
  ['without checksums', {}],
])('LZ4 computes the length of a frame of runs, copies and random bytes %s', async (_, options) => {
  const words = Array.from({ length: 200_000 }, (__, at) => `value ${(at * 7919) % 100_003}`)
  const parts = [randomBytes(300_000), Buffer.from(words.join()), Buffer.alloc(1_000_000)]
  const bytes = Buffer.concat([...parts, ...parts])
  expect(bytes.equals(await decompress(CompressionTypes.LZ4, compressFrameSync(bytes, options)))).toBe(true)
  const tooMany = Buffer.concat(Array.from({ length: 20 }, () => bytes))
  await expect(lengthOf(CompressionTypes.LZ4, compressFrameSync(tooMany, options))).rejects.toThrow(
    `expands to ${tooMany.length} bytes`,
  )
})
