import { crc32 } from 'node:zlib'

// The format of a segment: entries, one after another. An entry is a header and the payload. The header has the length and the
// CRC-32 of the payload, and a CRC-32 of both. The salt of the segment is part of that checksum, so that bytes of a deleted
// segment, which a crash may leave in a new file, are no entries.

const HEADER_BYTES = 12
/** The part of the header before its own checksum. */
const FACTS_BYTES = 8

/** An entry of a segment. */
export interface Entry {
  readonly payload: Uint8Array
  /** The offset after the entry in its file. */
  readonly end: number
}

export interface Parsed {
  readonly entries: readonly Entry[]
  /** The number of unreadable bytes. A torn tail does not count: a crash cut its entry, which was never confirmed. */
  readonly damagedBytes: number
}

/** The size of an entry in a segment. */
export function storedBytes(payload: Uint8Array): number {
  return HEADER_BYTES + payload.byteLength
}

export function encodeEntries(payloads: readonly Uint8Array[], salt: number): Buffer {
  const data = Buffer.allocUnsafe(payloads.reduce((sum, payload) => sum + storedBytes(payload), 0))
  let at = 0
  for (const payload of payloads) {
    data.writeUInt32LE(payload.byteLength, at)
    data.writeUInt32LE(crc32(payload), at + 4)
    data.writeUInt32LE(crc32(data.subarray(at, at + FACTS_BYTES), salt), at + FACTS_BYTES)
    data.set(payload, at + HEADER_BYTES)
    at += storedBytes(payload)
  }
  return data
}

/** Reads the entries of a segment. After damage it goes on with the next entry that has the right checksums. @param base the offset of `data` in the file. */
export function parseEntries(data: Buffer, salt: number, base = 0): Parsed {
  const entries: Entry[] = []
  let damagedBytes = 0
  for (let at = 0; at < data.length; ) {
    const payload = payloadAt(data, at, salt)
    if (payload !== null) {
      at += storedBytes(payload)
      entries.push({ payload, end: base + at })
    } else if (isTorn(data, at, salt)) {
      break
    } else {
      const next = nextEntry(data, at + 1, salt)
      damagedBytes += next - at
      at = next
    }
  }
  return { entries, damagedBytes }
}

/** The length of the payload, or null if there is no valid header. */
function lengthAt(data: Buffer, at: number, salt: number): number | null {
  if (at + HEADER_BYTES > data.length) return null
  const isValid = crc32(data.subarray(at, at + FACTS_BYTES), salt) === data.readUInt32LE(at + FACTS_BYTES)
  return isValid ? data.readUInt32LE(at) : null
}

function payloadAt(data: Buffer, at: number, salt: number): Buffer | null {
  const length = lengthAt(data, at, salt)
  const begin = at + HEADER_BYTES
  if (length === null || begin + length > data.length) return null
  const payload = data.subarray(begin, begin + length)
  return crc32(payload) === data.readUInt32LE(at + 4) ? payload : null
}

/** Whether a crash explains the rest: the file ends within an entry, or the disk has only zeros there. */
function isTorn(data: Buffer, at: number, salt: number): boolean {
  if (data.length - at < HEADER_BYTES) return true
  const length = lengthAt(data, at, salt)
  if (length !== null) return at + HEADER_BYTES + length > data.length
  return data.subarray(at).every((byte) => byte === 0)
}

/** The offset of the next readable entry, or the end of the data. */
function nextEntry(data: Buffer, from: number, salt: number): number {
  for (let at = from; at + HEADER_BYTES <= data.length; at++) {
    // Excludes almost every offset without a checksum.
    if (data.readUInt32LE(at) > data.length - at - HEADER_BYTES) continue
    if (payloadAt(data, at, salt) !== null) return at
  }
  return data.length
}
