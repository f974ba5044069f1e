import { RecordTooLargeError } from '@curfew/domain'
import type { Message } from 'kafkajs'
import type { Append } from './append.ts'
import type { ProducerId, RecordBatch } from './connection.ts'

/** One record of an append. */
export interface Entry {
  readonly topic: string
  readonly message: Message
  readonly bytes: number
  /** Entries are sent in the order of their numbers. */
  readonly number: number
  readonly append: Append
}

/** Producer ids count records in 31 bits. */
const SEQUENCE_MAX = 2 ** 31 - 1

/**
 * The records that wait for one partition, in order. At most one batch of them is under way. The batch keeps its records,
 * producer id and sequence until it is confirmed or its appends have ended. Kafka thus recognises a repetition, at a new
 * leader too.
 *
 * A batch that is given up takes its producer id with it. It may yet arrive, or have arrived: the next batch with
 * the same sequence would pass for its repetition, and Kafka would confirm it and keep nothing.
 */
export class PartitionQueue {
  readonly topic: string
  readonly partition: number
  /** The broker that leads the partition; null while it is not known. */
  leader: number | null = null
  /** The batch is at a broker, its answer outstanding. */
  sending = false
  /** Set until the first batch. Each partition counts its own records. */
  #producer: { readonly id: ProducerId; next: number } | null = null
  #batch: readonly Entry[] | null = null
  #queue: Entry[] = []
  /** Less than all after a batch was too large. */
  #batchLengthMax = Number.POSITIVE_INFINITY

  constructor(topic: string, partition: number) {
    this.topic = topic
    this.partition = partition
  }

  push(entry: Entry): void {
    this.#queue.push(entry)
  }

  /** The number of the oldest record; null: there is none. */
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

  /** Prepares the batch to be sent: the one that was sent before, else as much as fits into `bytesMax`, at least one record. @returns its size, 0 for none. */
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

  /** @param id must be new to this partition. */
  begin(id: ProducerId): void {
    this.#producer = { id, next: 0 }
  }

  /** The prepared batch, as it is sent. */
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

  /** Kafka confirmed the batch. */
  confirm(): void {
    const batch = this.#batch ?? []
    if (this.#producer !== null) this.#producer.next += batch.length
    this.#batch = null
    this.#batchLengthMax = Number.POSITIVE_INFINITY
    for (const { append } of batch) append.confirm()
  }

  /** Kafka refuses the sequence of the batch, or may. The batch goes out again under a new producer id. */
  renumber(): void {
    this.#producer = null
  }

  /**
   * The topic takes no batch of this size. It is split; a record that is alone is rejected.
   *
   * @returns the rejection; null where the batch was split.
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

  /** Empties it, of records that may have been sent too. */
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
