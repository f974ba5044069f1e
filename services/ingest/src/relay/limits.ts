import { createAddressLimits } from '@curfew/runtime'

/** The limits of the relay. A token with a good signature pays for nothing. */
export interface RelayLimits {
  /** Counts a refused token. @returns the milliseconds to wait if its address has sent too many; otherwise 0. */
  refused(address: string): number
  /**
   * Counts a token that would be appended before its signature is verified. A stranger can invent such tokens, so this limit keeps
   * the event log from filling with them.
   *
   * @returns the milliseconds to wait if its address, or all addresses, sent too many; otherwise 0.
   */
  unverified(address: string): number
}

/** Unverified tokens of one address: a mass logout during a short failure of the key set still passes. */
const OF_ADDRESS = { perSecond: 10, burst: 2_000 }
/** Unverified tokens of all addresses. */
const OF_ALL = { perSecond: 50, burst: 10_000 }

export function createRelayLimits(): RelayLimits {
  const refusals = createAddressLimits()
  const ofAddress = createAddressLimits(OF_ADDRESS)
  const ofAll = createAddressLimits(OF_ALL)
  return {
    refused: (address) => refusals.take(address),
    unverified: (address) => ofAddress.take(address) || ofAll.take('all'),
  }
}
