/** How the relay takes the logout tokens of an issuer. */
export interface RelaySettings {
  /** The URL of the issuer's JWK Set. Null: its discovery document names it. */
  readonly jwksUri: string | null
  /** Whether a token may lack `exp`, and have the `typ` JWT or none. */
  readonly lenient: boolean
  /** Whether a relayed logout notifies the issuer's other relying parties as well. */
  readonly widen: boolean
}

/** The settings of an issuer that states none. */
export const DEFAULT_RELAY: RelaySettings = { jwksUri: null, lenient: false, widen: false }
