/** TLS as it was when an endpoint was asked; that its certificate was verified goes without saying. */
export interface InspectedTls {
  /** Such as `TLSv1.3`. */
  readonly protocol: string
  readonly validTo: Date
}
