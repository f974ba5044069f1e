import { createRequire } from 'node:module'

/** The part of kafkajs's decoder that its function for a partition's records uses. Its version is pinned for this reason. */
interface Decoder {
  readInt32(): number
  canReadBytes(count: number): boolean
  readBytes(count: number): Buffer
}
type DecodeRecords = (decoder: Decoder) => Promise<unknown>
type Checksum = (bytes: Uint8Array) => number

/** The only format since Kafka 0.11, and the first with headers. All our records have it. */
const MAGIC = 2
const LENGTH_AT = 8
const MAGIC_AT = 16
const CHECKSUM_AT = 17
/** The checksum covers all bytes from here on. */
const COVERED_AT = 21
const HEADER_BYTES = 61
/** The length of a batch counts the bytes from here on. */
const LENGTH_END = LENGTH_AT + 4

let checked = false

/**
 * Makes fetches of kafkajs fail at a record batch that was damaged on disk or in transit. kafkajs itself does not compare the
 * checksum of a batch, and takes a truncated batch for the end of an answer.
 */
export function checkRecordBatches(): void {
  if (checked) return
  checked = true
  const require = createRequire(import.meta.url)
  const folder = 'kafkajs/src/protocol'
  const path = require.resolve(`${folder}/requests/fetch/v4/decodeMessages.js`)
  const decode = require(path) as DecodeRecords
  const checksum = require(`${folder}/recordBatch/crc32C/index.js`) as Checksum
  const loaded = require.cache[path]
  if (loaded === undefined || typeof decode !== 'function' || typeof checksum !== 'function')
    throw new TypeError('kafkajs is not the version that libs/broker was written for')
  loaded.exports = (decoder: Decoder) => {
    const size = decoder.readInt32()
    const records = size > 0 ? soundBatches(decoder.readBytes(size), checksum) : Buffer.alloc(0)
    return decode({ readInt32: () => records.length, canReadBytes: () => true, readBytes: () => records })
  }
  // kafkajs loads the module of a version at each fetch. Modules already loaded still use the original.
  for (const each of Object.keys(require.cache))
    if (/[\\/]requests[\\/]fetch[\\/]v\d+[\\/]response\.js$/.test(each)) delete require.cache[each]
}

/**
 * The batches before the first damaged or truncated one. Reading continues at that one, so the next answer begins with it.
 *
 * @throws {Error} if the first batch is damaged. Brokers send the first batch whole, whatever the requested size (KIP-74).
 */
function soundBatches(records: Buffer, checksum: Checksum): Buffer {
  let end = 0
  while (end < records.length) {
    const damage = damageOf(records.subarray(end), checksum)
    if (damage !== null) {
      if (end === 0) throw new Error(`a damaged record batch ${damage}`)
      break
    }
    end += LENGTH_END + records.readInt32BE(end + LENGTH_AT)
  }
  return records.subarray(0, end)
}

/** @param batch the batch, with others after it. */
function damageOf(batch: Buffer, checksum: Checksum): string | null {
  if (batch.length < HEADER_BYTES) return `of ${batch.length} bytes`
  const end = LENGTH_END + batch.readInt32BE(LENGTH_AT)
  const magic = batch.readInt8(MAGIC_AT)
  const where = `at offset ${batch.readBigInt64BE()}`
  if (end < HEADER_BYTES || end > batch.length)
    return `${where}: only ${batch.length} of ${end} bytes arrived`
  if (magic !== MAGIC) return `${where}: its format is ${magic}, not ${MAGIC}`
  const isSound = checksum(batch.subarray(COVERED_AT, end)) === batch.readUInt32BE(CHECKSUM_AT)
  return isSound ? null : `${where}: the checksum is wrong`
}
