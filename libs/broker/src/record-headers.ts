import { createRequire } from 'node:module'

/** A header as kafkajs reads it. */
interface Header {
  readonly key: string
  readonly value: Buffer | null
}

/**
 * The method of kafkajs's decoder that is replaced here. It reads only headers. The version of kafkajs is pinned for this reason.
 */
interface Decoder {
  readVarIntArray(read: (decoder: Decoder) => Header): Header[]
}

let replaced = false

/**
 * Makes kafkajs build the headers of a record in one pass. The original copies all headers for each header: a record of a foreign
 * producer with 20,000 headers blocks the process for a minute.
 */
export function readHeadersInOnePass(): void {
  if (replaced) return
  replaced = true
  const { prototype } = createRequire(import.meta.url)('kafkajs/src/protocol/decoder.js') as {
    readonly prototype: Decoder
  }
  const { readVarIntArray } = prototype
  if (typeof readVarIntArray !== 'function')
    throw new TypeError('kafkajs is not the version that libs/broker was written for')
  prototype.readVarIntArray = function readHeaders(this: Decoder, read) {
    return Headers.from(readVarIntArray.call(this, read)) as Headers
  }
}

/** The array that kafkajs reduces to an object. Its own reducer takes quadratic time. */
class Headers extends Array<Header> {
  override reduce(): never {
    const headers: Record<string, Buffer | null | (Buffer | null)[]> = Object.create(null)
    for (const { key, value } of this) {
      const before = headers[key]
      if (before === undefined) headers[key] = value
      else if (Array.isArray(before)) before.push(value)
      else headers[key] = [before, value]
    }
    return headers as never
  }
}
