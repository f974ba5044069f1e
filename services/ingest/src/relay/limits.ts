import { createAddressLimits } from '@curfew/runtime'

/** The limits of the relay. A token with a good signature pays for nothing. */
export interface RelayLimits {
  /** Counts a refused token. @returns the milliseconds to wait if its address has sent too many; otherwise 0. */
  refused(address: string): number
  /**
   * Counts a token that would be appended before its signature is verified. A stranger can invent such tokens, so this limit keeps
   * the event log from filling with them. Each issuer has a limit of its own, so that a flood for one costs no token of another.
   *
   * @param issuer its short name; null if the registry cannot be read.
   * @returns the milliseconds to wait if its address, or all addresses, sent too many for this issuer; otherwise 0.
   */
  unverified(address: string, issuer: string | null): number
}

/** Unverified tokens of one address: a mass logout during a short failure of the key set still passes. */
const OF_ADDRESS = { perSecond: 10, burst: 2_000 }
/** Unverified tokens of all addresses for one issuer. */
const OF_ISSUER = { perSecond: 50, burst: 10_000 }

export function createRelayLimits(): RelayLimits {
  const refusals = createAddressLimits()
  const ofAddress = createAddressLimits(OF_ADDRESS)
  const ofIssuer = createAddressLimits(OF_ISSUER)
  return {
    refused: (address) => refusals.take(address),
    unverified: (address, issuer) => ofAddress.take(address) || ofIssuer.take(issuer ?? ''),
  }
}
