/** A record for other systems about the outcome of logouts. */
export interface OutgoingRecord {
  /** Records with one key stay in order. */
  readonly key: string
  readonly value: Uint8Array
  readonly headers: Readonly<Record<string, string>>
}

/** The topics of the publisher. `outcomes` has the settled deliveries and the notifications. */
export type OutgoingTopic = 'deadLetters' | 'outcomes'

/** Publishes the outcome of logouts to other systems. */
export interface Publisher {
  /**
   * Resolves when every record is durable. If it rejects, some records may be published nevertheless. The caller publishes all
   * again, and consumers see a record at least once.
   *
   * @throws {EventLogUnavailableError} if durability was not confirmed in time.
   */
  publish(topic: OutgoingTopic, records: readonly OutgoingRecord[]): Promise<void>
  /** Resolves if the publisher is available. @throws {EventLogUnavailableError} */
  check(): Promise<void>
  /** Releases connections. */
  close(): Promise<void>
}
