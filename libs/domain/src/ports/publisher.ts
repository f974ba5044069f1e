/** One record for those who listen to what became of logouts. */
export interface OutgoingRecord {
  /** Records of one key keep their order. */
  readonly key: string
  readonly value: Uint8Array
  readonly headers: Readonly<Record<string, string>>
}

/** What there is to listen to: deliveries that were given up on; what became of deliveries, and notifications. */
export type OutgoingTopic = 'deadLetters' | 'outcomes'

/** The way out: word of what became of logouts to those who listen. Nobody has to. */
export interface Publisher {
  /**
   * Resolves when every record is durable. On rejection some may have been published all the same; the caller publishes
   * again, and listeners see at least once.
   *
   * @throws {EventLogUnavailableError} when durability could not be confirmed in time.
   */
  publish(topic: OutgoingTopic, records: readonly OutgoingRecord[]): Promise<void>
  /** Resolves when it answers. @throws {EventLogUnavailableError} */
  check(): Promise<void>
  /** Releases connections. */
  close(): Promise<void>
}
