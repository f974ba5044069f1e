/** The TLS connection to an endpoint, whose certificate was verified. */
export interface InspectedTls {
  /** The protocol version, such as `TLSv1.3`. */
  readonly protocol: string
  readonly validTo: Date
}
