import type { GivenEventId, LogoutEvent } from '@curfew/domain'
import { type Database, isReturned } from '@curfew/ledger'
import { within } from '@curfew/runtime'

/** Whether the token of an event is one that Curfew sent. False if the ledger does not answer soon. */
export type IsMinted = (event: LogoutEvent, fromCurfew: boolean) => Promise<boolean>

/** Longest wait for the ledger, in milliseconds. */
const PATIENCE_MS = 500
/** Pause after a query without an answer, in milliseconds. */
const PAUSE_MS = 2_000
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/**
 * Recognises the tokens that come back because the endpoint of a client leads to the relay. The signature does not show it: an
 * identity provider may share its key with Curfew, and its own tokens must pass. A forwarded token is recognised only if the request
 * is from Curfew, because identity providers may post a token twice.
 */
export function createIsMinted(db: Database): IsMinted {
  let silentUntilMs = Number.NEGATIVE_INFINITY
  return async ({ iss, givenId, sub, sid, txn = null, relayed }, fromCurfew) => {
    const eventId = txn !== null && UUID.test(txn) ? (txn.toLowerCase() as GivenEventId) : null
    if (relayed === undefined || (eventId === null && !fromCurfew)) return false
    if (performance.now() < silentUntilMs) return false
    const { clientId } = relayed
    const sent = fromCurfew ? { id: givenId, txn, sub, sid } : null
    const asking = isReturned(db, { iss, clientId, eventId, sent }).catch(() => null)
    const returned = await within(asking, PATIENCE_MS, null)
    // A refused token of the identity provider would be a lost logout. A loop ends at a later token.
    if (returned === null) silentUntilMs = performance.now() + PAUSE_MS
    return returned ?? false
  }
}
