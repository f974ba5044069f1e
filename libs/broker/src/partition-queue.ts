import { RecordTooLargeError } from '@curfew/domain'
import type { Message } from 'kafkajs'
import type { Append } from './append.ts'
import type { ProducerId, RecordBatch } from './connection.ts'

/** One record of an append. */
export interface Entry {
  readonly topic: string
  readonly message: Message
  readonly bytes: number
  /** The order of sending. */
  readonly number: number
  readonly append: Append
}

/** The sequence of a producer id has 31 bits. */
const SEQUENCE_MAX = 2 ** 31 - 1

/**
 * The records that wait for one partition, in order. At most one batch is under way. The batch keeps its records, producer id and
 * sequence until Kafka confirms it or its appends have ended. Kafka therefore recognises a repetition, even at a new leader.
 *
 * An abandoned batch takes its producer id with it, because it may still arrive. The next batch with the same sequence would look
 * like its repetition, and Kafka would confirm it without keeping it.
 */
export class PartitionQueue {
  readonly topic: string
  readonly partition: number
  /** The id of the broker that leads the partition; null if it is unknown. */
  leader: number | null = null
  /** Whether the batch was sent and its answer is outstanding. */
  sending = false
  /** The producer id and the sequence of the next batch; null until the first batch. */
  #producer: { readonly id: ProducerId; next: number } | null = null
  #batch: readonly Entry[] | null = null
  #queue: Entry[] = []
  /** Most records in a batch, reduced after a batch was too large. */
  #batchLengthMax = Number.POSITIVE_INFINITY

  constructor(topic: string, partition: number) {
    this.topic = topic
    this.partition = partition
  }

  push(entry: Entry): void {
    this.#queue.push(entry)
  }

  /** The number of the oldest record; null if there is none. */
  oldest(): number | null {
    this.forget()
    return (this.#batch ?? this.#queue)[0]?.number ?? null
  }

  /** Drops records whose append has ended. */
  forget(): void {
    if (this.sending) return
    if (this.#batch?.every(({ append }) => append.settled)) this.#giveUp()
    if (this.#batch !== null) return
    const first = this.#queue.findIndex(({ append }) => !append.settled)
    if (first !== 0) this.#queue.splice(0, first < 0 ? this.#queue.length : first)
  }

  /**
   * Prepares the next batch: a batch that was sent before, or as many records as fit into `bytesMax`, at least one.
   *
   * @returns its size in bytes; 0 if no record waits.
   */
  prepare(bytesMax: number): number {
    this.forget()
    if (this.#batch === null && this.#queue.length > 0) this.#batch = this.#take(bytesMax)
    return this.#batch?.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0
  }

  #take(bytesMax: number): readonly Entry[] {
    let bytes = 0
    const end = this.#queue.findIndex((entry, index) => {
      bytes += entry.bytes
      return index > 0 && (bytes > bytesMax || index >= this.#batchLengthMax)
    })
    const taken = this.#queue.splice(0, end < 0 ? this.#queue.length : end)
    return taken.filter(({ append }) => !append.settled)
  }

  /** Whether the prepared batch lacks a producer id. */
  needsProducer(): boolean {
    const length = this.#batch?.length ?? 0
    if (this.#producer !== null && this.#producer.next + length > SEQUENCE_MAX) this.#producer = null
    return this.#producer === null
  }

  /** @param id is new to this partition. */
  begin(id: ProducerId): void {
    this.#producer = { id, next: 0 }
  }

  /** The prepared batch in the form in which it is sent. */
  prepared(): RecordBatch {
    if (this.#batch === null || this.#producer === null) throw new Error('no batch is prepared')
    return {
      topic: this.topic,
      partition: this.partition,
      messages: this.#batch.map(({ message }) => message),
      producer: this.#producer.id,
      sequence: this.#producer.next,
    }
  }

  /** Ends the batch after Kafka's confirmation. */
  confirm(): void {
    const batch = this.#batch ?? []
    if (this.#producer !== null) this.#producer.next += batch.length
    this.#batch = null
    this.#batchLengthMax = Number.POSITIVE_INFINITY
    for (const { append } of batch) append.confirm()
  }

  /** Drops the producer id, because Kafka refuses the sequence of the batch, or may. The batch is sent again under a new id. */
  renumber(): void {
    this.#producer = null
  }

  /**
   * Splits the batch, because the topic takes no batch of this size. A single record is rejected.
   *
   * @returns the rejection; null if the batch was split.
   */
  split(cause: unknown): RecordTooLargeError | null {
    const batch = this.#batch ?? []
    this.#giveUp()
    const [first, ...more] = batch
    if (first === undefined) return null
    if (more.length > 0) {
      this.#batchLengthMax = Math.ceil(batch.length / 2)
      this.#queue.unshift(...batch)
      return null
    }
    const error = new RecordTooLargeError(
      `Kafka topic ${this.topic} takes no record of ${first.bytes} bytes: raise its max.message.bytes`,
      { cause },
    )
    first.append.reject(error)
    return error
  }

  /** Removes and returns all records, including those already sent. */
  drain(): readonly Entry[] {
    const entries = [...(this.#batch ?? []), ...this.#queue]
    this.#giveUp()
    this.#queue = []
    return entries
  }

  #giveUp(): void {
    this.#batch = null
    this.#producer = null
  }
}
