import { promisify } from 'node:util'
import { gunzip, zstdDecompress } from 'node:zlib'
import kafkajs from 'kafkajs'

// Brokers and foreign producers may compress records with any codec: a cluster-wide `compression.type` holds for our topics too.
// kafkajs itself reads gzip only.

/** Largest decompressed size of a batch. We send batches of up to 2 MiB; a larger one is an attack or a mistake. */
const BATCH_BYTES_MAX = 64 * 1_048_576

type Decompress = (compressed: Buffer) => Promise<Buffer>

let registered = false

/** Lets kafkajs read every codec of Kafka. It adds no codec for writing. */
export function registerCodecs(): void {
  if (registered) return
  registered = true
  const { CompressionTypes, CompressionCodecs } = kafkajs
  const bounded = { maxOutputLength: BATCH_BYTES_MAX }
  const gzip: Decompress = (compressed) => promisify(gunzip)(compressed, bounded)
  const zstd: Decompress = (compressed) => promisify(zstdDecompress)(compressed, bounded)
  // kafkajs keeps its own gzip compression.
  const { compress: compressGzip } = CompressionCodecs[CompressionTypes.GZIP]()
  CompressionCodecs[CompressionTypes.GZIP] = () => ({ compress: compressGzip, decompress: gzip })
  const codecs: Readonly<Record<number, Decompress>> = {
    [CompressionTypes.Snappy]: snappy,
    [CompressionTypes.LZ4]: lz4,
    [CompressionTypes.ZSTD]: zstd,
  }
  for (const [type, decompress] of Object.entries(codecs)) {
    CompressionCodecs[Number(type) as keyof typeof CompressionCodecs] = () => ({ compress, decompress })
  }
}

async function compress(): Promise<never> {
  throw new Error('libs/broker compresses nothing')
}

/** The header of Snappy in the Java client: a magic word and two versions of 4 bytes. Blocks follow, each after its length. */
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])
const XERIAL_HEADER_BYTES = 16

async function snappy(compressed: Buffer): Promise<Buffer> {
  // Loaded on first use: a platform without the binary then works if its topics do not use Snappy.
  const { uncompress } = await import('snappy')
  const blocks = compressed.subarray(0, XERIAL.length).equals(XERIAL)
    ? [...xerialBlocks(compressed)]
    : [compressed]
  const bytes = blocks.reduce((sum, block) => sum + snappyLength(block), 0)
  if (bytes > BATCH_BYTES_MAX)
    throw new RangeError(`a batch expands to ${bytes} bytes, more than ${BATCH_BYTES_MAX}`)
  const parts = await Promise.all(blocks.map((block) => uncompress(block, { asBuffer: true })))
  return Buffer.concat(parts as Buffer[])
}

function* xerialBlocks(framed: Buffer): Iterable<Buffer> {
  for (let at = XERIAL_HEADER_BYTES; at < framed.length; ) {
    const end = at + 4 + framed.readUInt32BE(at)
    if (end > framed.length) throw new RangeError('a Snappy block is cut short')
    yield framed.subarray(at + 4, end)
    at = end
  }
}

/** The decompressed length of a Snappy block, which starts with it as a varint. */
function snappyLength(block: Buffer): number {
  let length = 0
  for (let index = 0; index < 5; index++) {
    const byte = block.readUInt8(index)
    length += (byte & 0x7f) * 2 ** (7 * index)
    if (byte < 0x80) return length
  }
  throw new RangeError('a Snappy block has no length')
}

const LZ4_MAGIC = 0x184d2204
/** The highest compression ratio of LZ4. */
const LZ4_RATIO_MAX = 255

async function lz4(compressed: Buffer): Promise<Buffer> {
  if (compressed.length * LZ4_RATIO_MAX > BATCH_BYTES_MAX) {
    const bytes = lz4Length(compressed)
    if (bytes > BATCH_BYTES_MAX)
      throw new RangeError(`a batch expands to ${bytes} bytes, more than ${BATCH_BYTES_MAX}`)
  }
  const { decompressFrame } = await import('lz4-napi')
  return decompressFrame(compressed)
}

/** The decompressed length of a frame. Its header may omit the length, or lie. */
function lz4Length(frame: Buffer): number {
  if (frame.readUInt32LE() !== LZ4_MAGIC) throw new RangeError('a batch is not an LZ4 frame')
  const flags = frame.readUInt8(4)
  const checksumBytes = flags & 0x10 ? 4 : 0
  let length = 0
  let at = 7 + (flags & 0x08 ? 8 : 0) + (flags & 0x01 ? 4 : 0)
  for (let size = frame.readUInt32LE(at); size !== 0; size = frame.readUInt32LE(at)) {
    const isStored = size >= 0x80000000
    const start = at + 4
    const end = start + (size & 0x7fffffff)
    length += isStored ? end - start : lz4BlockLength(frame.subarray(start, end))
    at = end + checksumBytes
  }
  return length
}

/** The decompressed length of a block, which is a sequence of literal bytes and of copies of earlier bytes. */
function lz4BlockLength(block: Buffer): number {
  let length = 0
  let at = 0
  const readCount = (short: number) => {
    let count = short
    for (let byte = short === 15 ? 255 : 0; byte === 255; count += byte) byte = block.readUInt8(at++)
    return count
  }
  while (at < block.length) {
    const token = block.readUInt8(at++)
    const plain = readCount(token >> 4)
    length += plain
    at += plain
    if (at >= block.length) break
    at += 2
    length += readCount(token & 0x0f) + 4
  }
  return length
}
