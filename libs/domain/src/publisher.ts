/** One record for those who listen to what became of logouts. */
export interface OutgoingRecord {
  /** Records of one key keep their order. */
  readonly key: string
  readonly value: Uint8Array
  readonly headers: Readonly<Record<string, string>>
}

/** The way out: word of dead letters to those who listen. Nobody has to. */
export interface DeadLetterPublisher {
  /**
   * Resolves when every record is durable. On rejection some may have been published all the same; the caller publishes
   * again, and listeners see at least once.
   *
   * @throws {EventLogUnavailableError} when durability could not be confirmed in time.
   */
  publish(records: readonly OutgoingRecord[]): Promise<void>
  /** Resolves when it answers. @throws {EventLogUnavailableError} */
  check(): Promise<void>
  /** Releases connections. */
  close(): Promise<void>
}
