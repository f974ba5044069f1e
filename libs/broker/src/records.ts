import type { ConsumedRecord, LogLane, LogRecord } from '@curfew/domain'
import type { IHeaders, KafkaMessage, Message } from 'kafkajs'

/** A record as kafkajs sends it. Headers go as UTF-8. */
export function toMessage({ key, value, headers }: Omit<LogRecord, 'lane'>): Message {
  return {
    key,
    value: Buffer.from(value.buffer, value.byteOffset, value.byteLength),
    headers: { ...headers },
  }
}

/**
 * A record as it was received. Foreign producers may leave out key, value or headers, and repeat a header: what is
 * absent reads as empty, and the last of a repeated header counts.
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
    // Null, though the types of kafkajs do not say so, where the producer sent no value.
    const last: Buffer | string | null | undefined = Array.isArray(value) ? value.at(-1) : value
    if (last !== undefined && last !== null) read.push([name, last.toString()])
  }
  // As properties of its own, `__proto__` too.
  return Object.fromEntries(read)
}
