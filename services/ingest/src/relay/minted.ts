import type { GivenEventId, Issuer } from '@curfew/domain'
import { type Database, identifyEvents } from '@curfew/ledger'

/** Whether Curfew minted a token: its `txn` is the id of an event of the issuer. False if the ledger does not answer soon. */
export type IsMinted = (token: { readonly iss: Issuer; readonly txn: string | undefined }) => Promise<boolean>

/** Longest wait for the ledger, in milliseconds. */
const PATIENCE_MS = 500
/** Pause after a query without an answer, in milliseconds. */
const PAUSE_MS = 2_000
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/**
 * Recognises the tokens that come back because the endpoint of a client leads to the relay. The signature does not show it: an
 * identity provider may share its key with Curfew, and its own tokens must pass.
 */
export function createIsMinted(db: Database): IsMinted {
  let silentUntilMs = Number.NEGATIVE_INFINITY
  return async ({ iss, txn }) => {
    if (txn === undefined || !UUID.test(txn) || performance.now() < silentUntilMs) return false
    const found = await Promise.race([
      identifyEvents(db, [{ givenId: txn.toLowerCase() as GivenEventId, iss }]).catch(() => null),
      later(PATIENCE_MS),
    ])
    // A loop ends at the next token. A refused token of the identity provider would be a lost logout.
    if (found === null) silentUntilMs = performance.now() + PAUSE_MS
    return (found?.[0]?.length ?? 0) > 0
  }
}

function later(ms: number): Promise<null> {
  return new Promise((resolve) => {
    setTimeout(() => resolve(null), ms).unref()
  })
}
