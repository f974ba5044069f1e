import type { BindingQueue } from './binding-queue.ts'
import type { IssuerShares } from './issuer-shares.ts'

// Decides how many deliveries of one binding this worker wants in memory.

/** The most deliveries of one binding that wait in memory, so that one RP does not fill it. */
const WAITING_MAX = 1_024
/**
 * The part of its issuer's free memory that one binding may take. Memory remains for the next binding, however many RPs do not
 * respond.
 */
export const SHARE = 1 / 4
/** The part of its issuer's memory that is reserved for bindings with few deliveries in hand. */
const RESERVE = 1 / 4
/** The part of the free memory that a binding may take from the reserve. */
export const RESERVE_SHARE = 1 / 32
/**
 * The deliveries to claim ahead, as a multiple of the concurrent attempts. It keeps a slow RP busy for one round trip to the
 * ledger.
 */
const CLAIM_AHEAD = 4
/**
 * The deliveries to claim ahead, as a multiple of the attempts that ended since the last claim. A fast RP's backlog soon fits in
 * memory and is done.
 */
const CLAIM_AHEAD_OF_ENDED = 2
/** A binding with a rate limit has at most the deliveries of this interval in memory, in milliseconds. */
const AHEAD_MS = 5_000
/** The part of its memory that must be free before an issuer causes an immediate claim. */
const ROOM_PART_MIN = 1 / 8

/** Whether the breaker of a binding is not closed. */
export const isUnavailable = ({ breaker }: BindingQueue): boolean => breaker.state !== 'closed'

/** The most deliveries that a binding may have in hand when its issuer has room for `free`. */
export function allowance(queue: BindingQueue, shares: IssuerShares, free: number): number {
  if (queue.limit === 0) return 0
  const reserve = shares.partOf(queue.issuer) * RESERVE
  const most = Math.max((free - reserve) * SHARE, Math.min(queue.limit, free * RESERVE_SHARE))
  return Math.floor(Math.min(WAITING_MAX, most, queue.startableWithin(AHEAD_MS)))
}

/** The number of deliveries that a binding should have in hand while the ledger has more. */
export function wanted(queue: BindingQueue, shares: IssuerShares, free: number): number {
  if (isUnavailable(queue)) return queue.limit
  const ahead = Math.max(queue.limit * CLAIM_AHEAD, queue.ended * CLAIM_AHEAD_OF_ENDED)
  return Math.min(ahead, allowance(queue, shares, free))
}

/** Whether to claim more deliveries of this binding at once. */
export function wantsMore(queue: BindingQueue, shares: IssuerShares): boolean {
  if (!queue.backlog.interactive && !queue.backlog.bulk) return false
  const room = shares.roomOf(queue.issuer)
  // A claim costs the same for one delivery as for many, so an issuer with little room waits until there is more.
  if (room < shares.partOf(queue.issuer) * ROOM_PART_MIN) return false
  const want = wanted(queue, shares, room)
  return want > 0 && queue.inHand <= want / 2
}
