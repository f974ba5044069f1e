import type { BindingId, DeliveryId, InFlightDelivery, Issuer } from '@curfew/domain'
import { isDown } from './appetite.ts'
import type { BindingLimits } from './binding-limits.ts'
import { createIssuerShares, type IssuerShares } from './issuer-shares.ts'
import { Line } from './line.ts'

/** Longest that the way in waits for attempts to catch up, in milliseconds: it shares the processor with them. */
export const ROOM_WAIT_MS = 50

export interface HoldingsDeps {
  readonly limits: Pick<BindingLimits, 'of'>
  /** Most deliveries in memory. */
  readonly heldMax: number
  /** Most attempts under way. */
  readonly attemptsMax: number
  readonly monotonicMs: () => number
  /** Uniform in [0, 1). */
  readonly random: () => number
}

/** What this worker has leased, from the lease to the ledger's having the outcome: one line for each binding, so that no RP waits for another. */
export interface Holdings {
  readonly lines: ReadonlyMap<BindingId, Line>
  readonly shares: IssuerShares
  /** Deliveries of which the ledger is being told that they are given back. */
  readonly releasing: Set<DeliveryId>
  /** How many more may be held, of all bindings together. */
  readonly free: number
  /** How many bindings are known to be down. */
  readonly open: number
  /** What is held, or being given back. */
  ids(): readonly DeliveryId[]
  /** The line of a binding, which begins with the first delivery. */
  lineOf(id: BindingId, issuer: Issuer): Line
  /** Forgets a line of which nothing needs to be remembered. */
  forgetQuiet(id: BindingId, line: Line): void
  hold(delivery: InFlightDelivery): void
  /** These deliveries of one issuer are not held any more. */
  drop(issuer: Issuer, ids: readonly DeliveryId[]): void
  /**
   * Resolves when there is room for a batch, or after `ms`: never longer, for the way in waits for no RP. What is held for
   * RPs that have not ended an attempt within the last `ms` is not counted: waiting would not make room.
   *
   * @param issuers whose deliveries count. Default: all.
   */
  waitForRoom(ms: number, issuers?: ReadonlySet<Issuer>): Promise<void>
  /** Drops what has not been started: its lease is lost, or given back by others. */
  clear(): void
  /** Resolves when no attempt is running. */
  idle(): Promise<void>
}

export function createHoldings(deps: HoldingsDeps): Holdings {
  const { limits, heldMax, monotonicMs, random } = deps
  const lines = new Map<BindingId, Line>()
  const ids = new Set<DeliveryId>()
  const releasing = new Set<DeliveryId>()
  const shares = createIssuerShares(deps)
  const waiters = new Set<{ readonly atHeld: number; resolve(): void }>()

  /** Resolves when no more than `atHeld` are held, or after `ms`. */
  async function until(atHeld: number, ms?: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = ms === undefined ? undefined : setTimeout(resolve, ms)
    const waiter = { atHeld, resolve }
    waiters.add(waiter)
    await promise
    clearTimeout(timer)
    waiters.delete(waiter)
  }

  function drop(issuer: Issuer, dropped: readonly DeliveryId[]): void {
    for (const id of dropped) ids.delete(id)
    shares.hold(issuer, -dropped.length)
    for (const waiter of waiters) if (shares.held <= waiter.atHeld) waiter.resolve()
  }

  function forgetQuiet(id: BindingId, line: Line): void {
    if (line.quiet) lines.delete(id)
  }

  return {
    ...{ lines, shares, releasing, drop, forgetQuiet },
    get free() {
      return Math.max(0, heldMax - shares.held)
    },
    get open() {
      return [...lines.values()].filter(isDown).length
    },
    ids: () => [...ids, ...releasing],
    lineOf(id, issuer) {
      const known = lines.get(id)
      if (known !== undefined) return known
      const line = new Line({ issuer, limits: () => limits.of(id), monotonicMs, random })
      lines.set(id, line)
      return line
    },
    hold({ id, event }) {
      shares.hold(event.iss, 1)
      ids.add(id)
    },
    async waitForRoom(ms, issuers) {
      const nowMs = monotonicMs()
      const moving = [...lines.values()].filter(
        ({ endedMs, issuer }) => nowMs - endedMs <= ms && (issuers?.has(issuer) ?? true),
      )
      const excess = moving.reduce((sum, line) => sum + line.inHand, 0) - heldMax / 2
      if (excess > 0) await until(shares.held - excess, ms)
    },
    clear() {
      for (const [id, line] of lines) {
        const dropped = line.takeWaiting().map(({ delivery }) => delivery.id)
        drop(line.issuer, dropped)
        forgetQuiet(id, line)
      }
    },
    async idle() {
      if (shares.held > 0) await until(0)
    },
  }
}
