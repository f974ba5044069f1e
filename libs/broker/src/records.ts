import type { ConsumedRecord, LogLane, LogRecord } from '@curfew/domain'
import type { IHeaders, KafkaMessage, Message } from 'kafkajs'

/** Converts a record for kafkajs. Headers are encoded as UTF-8. */
export function toMessage({ key, value, headers }: Omit<LogRecord, 'lane'>): Message {
  return {
    key,
    value: Buffer.from(value.buffer, value.byteOffset, value.byteLength),
    headers: { ...headers },
  }
}

/**
 * Converts a received record. Foreign producers may omit key, value or headers, and repeat a header. A missing part reads as
 * empty, and the last of a repeated header counts.
 */
export function fromMessage(
  { key, value, headers, offset }: KafkaMessage,
  { lane, topic, partition }: { lane: LogLane; topic: string; partition: number },
): ConsumedRecord {
  return {
    lane,
    key: key?.toString() ?? '',
    value: value ?? new Uint8Array(),
    headers: headers === undefined ? {} : readHeaders(headers),
    position: `${topic}/${partition}@${offset}`,
  }
}

function readHeaders(headers: IHeaders): Record<string, string> {
  const read: [string, string][] = []
  for (const [name, value] of Object.entries(headers)) {
    // Null if the producer sent no value, although the types of kafkajs do not say so.
    const last: Buffer | string | null | undefined = Array.isArray(value) ? value.at(-1) : value
    if (last !== undefined && last !== null) read.push([name, last.toString()])
  }
  // Own properties, so that a header `__proto__` is harmless.
  return Object.fromEntries(read)
}
