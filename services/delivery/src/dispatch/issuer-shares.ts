import { type Issuer, shareLeft } from '@curfew/domain'

/** What the bindings of one issuer have together. */
interface Taken {
  inHand: number
  running: number
}

/** What each issuer has of this worker's memory and attempts, so that none takes all. */
export interface IssuerShares {
  /** Counts deliveries in hand; negative when they leave. */
  hold(issuer: Issuer, deliveries: number): void
  /** Counts attempts under way; negative when they end. */
  run(issuer: Issuer, attempts: number): void
  /** How many more deliveries an issuer may have in hand. */
  roomOf(issuer: Issuer): number
  /** How many deliveries an issuer may have in hand, with those that it has. */
  partOf(issuer: Issuer): number
  /** How many more attempts an issuer may have under way. */
  attemptsOf(issuer: Issuer): number
  /** Whether more than one issuer has had deliveries in hand lately. */
  readonly shared: boolean
  /** Deliveries in hand. */
  readonly held: number
  /** Attempts under way. */
  readonly running: number
  /** The most attempts that one issuer has under way. */
  readonly mostRunning: number
}

/** The part that one issuer may have of what it has and what is free. The rest is for an issuer that has nothing yet. */
const ISSUER_PART = 3 / 4
/** So long an issuer counts as one of several after its last delivery came, in milliseconds. */
const LATELY_MS = 2_000

export function createIssuerShares({
  heldMax,
  attemptsMax,
  monotonicMs,
}: {
  readonly heldMax: number
  readonly attemptsMax: number
  readonly monotonicMs: () => number
}): IssuerShares {
  const issuers = new Map<Issuer, Taken>()
  /** Which issuer had the last delivery, and when another had one. */
  let last: Issuer | null = null
  let otherMs = Number.NEGATIVE_INFINITY
  let held = 0
  let running = 0

  function change(issuer: Issuer, inHand: number, attempts: number): void {
    const taken = issuers.get(issuer) ?? { inHand: 0, running: 0 }
    taken.inHand += inHand
    taken.running += attempts
    held += inHand
    running += attempts
    if (taken.inHand === 0 && taken.running === 0) issuers.delete(issuer)
    else issuers.set(issuer, taken)
  }

  const roomOf = (issuer: Issuer) => shareLeft(issuers.get(issuer)?.inHand ?? 0, heldMax - held, ISSUER_PART)

  return {
    hold(issuer, deliveries) {
      if (deliveries > 0 && issuer !== last) {
        if (last !== null) otherMs = monotonicMs()
        last = issuer
      }
      change(issuer, deliveries, 0)
    },
    run: (issuer, attempts) => change(issuer, 0, attempts),
    roomOf,
    partOf: (issuer) => (issuers.get(issuer)?.inHand ?? 0) + roomOf(issuer),
    attemptsOf: (issuer) => shareLeft(issuers.get(issuer)?.running ?? 0, attemptsMax - running, ISSUER_PART),
    get shared() {
      return monotonicMs() - otherMs < LATELY_MS
    },
    get held() {
      return held
    },
    get running() {
      return running
    },
    get mostRunning() {
      return [...issuers.values()].reduce((most, taken) => Math.max(most, taken.running), 0)
    },
  }
}
