import type { GivenEventId, LogoutEvent } from '@curfew/domain'
import { type Database, isReturned } from '@curfew/ledger'
import { within } from '@curfew/runtime'

/** A token that may be one that Curfew sent. */
export interface MaybeMinted {
  readonly event: LogoutEvent
  readonly jti: string
  /** Whether the request names Curfew as its sender. */
  readonly fromCurfew: boolean
}

/** Whether a token is one that Curfew sent. False if the ledger does not answer soon. */
export type IsMinted = (token: MaybeMinted) => Promise<boolean>

/** Longest wait for the ledger, in milliseconds. */
const PATIENCE_MS = 500
/** Pause after a query without an answer, in milliseconds. */
const PAUSE_MS = 2_000
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
/** The version of the ids that Curfew makes for its tokens. Identity providers mostly use others, which need no query. */
const MESSAGE_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i

/**
 * Recognises the tokens that come back because the endpoint of a client leads to the relay: by their `jti`, or by their `txn` if
 * another Curfew made them of ours. The signature does not show it: an identity provider may share its key with Curfew, and its own
 * tokens must pass. A forwarded token is recognised only if the request is from Curfew, because identity providers may post a token
 * twice.
 */
export function createIsMinted(db: Database): IsMinted {
  let silentUntilMs = Number.NEGATIVE_INFINITY
  return async ({ event: { iss, givenId, txn: given }, jti: id, fromCurfew }) => {
    const txn = given !== undefined && UUID.test(given) ? (given.toLowerCase() as GivenEventId) : null
    const jti = MESSAGE_ID.test(id) ? id.toLowerCase() : null
    if (jti === null && txn === null && !fromCurfew) return false
    if (performance.now() < silentUntilMs) return false
    const asking = isReturned(db, { iss, jti, txn, eventId: fromCurfew ? givenId : null }).catch(() => null)
    const returned = await within(asking, PATIENCE_MS, null)
    // A refused token of the identity provider would be a lost logout. A loop ends at a later token.
    if (returned === null) silentUntilMs = performance.now() + PAUSE_MS
    return returned ?? false
  }
}
