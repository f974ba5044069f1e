import type { BindingQueue } from './binding-queue.ts'
import type { IssuerShares } from './issuer-shares.ts'

// How many deliveries of one binding this worker wants in memory.

/** Most that a binding may have waiting in memory, so that one RP does not fill it. */
const WAITING_MAX = 1_024
/** The part of its issuer's free memory that one binding may take, so that however many RPs hang, some is left for the next. */
export const SHARE = 1 / 4
/** The part of its issuer's memory that is kept for bindings with little in hand, and the part of what is free that one may take of it. */
const RESERVE = 1 / 4
export const RESERVE_SHARE = 1 / 32
/** Claimed ahead of need, in multiples of the attempts at once: enough to keep a slow RP busy for one round trip to the ledger. */
const CLAIM_AHEAD = 4
/** The same in multiples of what ended since the last claim: a fast RP's backlog soon fits in memory, and is over. */
const CLAIM_AHEAD_OF_ENDED = 2
/** A binding with a rate has no more in memory than it takes in so long. */
const AHEAD_MS = 5_000
/** Of its part of the memory: an issuer with less room than that does not hurry the next claim. */
const HUNGRY_PART = 1 / 8

export const isDown = ({ breaker }: BindingQueue): boolean => breaker.state !== 'closed'

/** Most that a binding may have in hand, when `free` are free for its issuer. */
export function allowance(queue: BindingQueue, shares: IssuerShares, free: number): number {
  if (queue.limit === 0) return 0
  const reserve = shares.partOf(queue.issuer) * RESERVE
  const most = Math.max((free - reserve) * SHARE, Math.min(queue.limit, free * RESERVE_SHARE))
  return Math.floor(Math.min(WAITING_MAX, most, queue.startableWithin(AHEAD_MS)))
}

/** What it should have in hand while the ledger has more. */
export function wanted(queue: BindingQueue, shares: IssuerShares, free: number): number {
  if (isDown(queue)) return queue.limit
  const ahead = Math.max(queue.limit * CLAIM_AHEAD, queue.ended * CLAIM_AHEAD_OF_ENDED)
  return Math.min(ahead, allowance(queue, shares, free))
}

/** Whether the ledger should be asked for more of it at once. */
export function isHungry(queue: BindingQueue, shares: IssuerShares): boolean {
  if (!queue.backlog.interactive && !queue.backlog.bulk) return false
  const room = shares.roomOf(queue.issuer)
  // A claim costs as much for one delivery as for many: an issuer that has nearly its part waits until there is room for some.
  if (room < shares.partOf(queue.issuer) * HUNGRY_PART) return false
  const want = wanted(queue, shares, room)
  return want > 0 && queue.inHand <= want / 2
}
