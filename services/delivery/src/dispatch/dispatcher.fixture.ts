import type {
  AttemptOutcome,
  Binding,
  BindingId,
  DeliveryId,
  InFlightDelivery,
  Issuer,
  Lane,
  WorkerId,
} from '@curfew/domain'
import { DEFAULT_RELAY } from '@curfew/domain'
import type { DeliveryLedger, KnownIssuer } from '@curfew/ledger'
import { createLog } from '@curfew/runtime'
import { onTestFinished, vi } from 'vitest'
import type { Round } from '../attempt/attempt.ts'
import type { BindingLimits } from './binding-limits.ts'
import { Dispatcher, type DispatcherDeps } from './dispatcher.ts'
import { Holdings, type HoldingsDeps } from './holdings.ts'

export const HOUR = 3_600_000

/** Claims until the test ends. */
export function claim(dispatcher: Dispatcher): {
  readonly stop: AbortController
  readonly ended: Promise<void>
} {
  const stop = new AbortController()
  onTestFinished(() => stop.abort())
  return { stop, ended: dispatcher.claimUntil(stop.signal) }
}

/** Advances the clock until the condition holds. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) {
    if (Date.now() > HOUR) throw new Error('the condition did not hold within an hour')
    await vi.advanceTimersByTimeAsync(1)
  }
}

export const IDLE_MS = 200
export const id = (value: number) => value as BindingId
export const W1 = 'w1' as WorkerId
/** The issuer of a binding. Bindings 1 to 999 have one issuer, 1,000 to 1,999 the next, and so on. */
export const issuerOf = (bindingId: number) =>
  `https://idp-${Math.floor(bindingId / 1_000)}.example` as Issuer
const bindingsOf = (n: number) =>
  Array.from({ length: 1_000 }, (_, at) => ({ id: id(n * 1_000 + at) }) as Binding)
const ISSUERS: ReadonlyMap<Issuer, KnownIssuer> = new Map(
  Array.from({ length: 10 }, (_, n) => [
    issuerOf(n * 1_000),
    {
      bindings: bindingsOf(n),
      sessionIndex: 'off',
      sessionIssuer: null,
      relay: DEFAULT_RELAY,
      networks: { allowedNetworks: null },
    },
  ]),
)
let serial = 0
const deliveryTo = (bindingId: number, lane: Lane) =>
  ({
    id: `d${++serial}`,
    bindingId: id(bindingId),
    event: { lane, iss: issuerOf(bindingId) },
  }) as unknown as InFlightDelivery
export const deliveriesTo = (bindingId: number, count: number, lane: Lane = 'interactive') =>
  Array.from({ length: count }, () => deliveryTo(bindingId, lane))

export interface RigOptions
  extends Partial<Pick<DispatcherDeps, 'attempt' | 'settleRound' | 'bulkPace' | 'startsPerTurn'>>,
    Partial<Pick<HoldingsDeps, 'heldMax' | 'attemptsMax'>>,
    Partial<Pick<BindingLimits, 'barred'>> {
  readonly releaseDeliveries?: DeliveryLedger['releaseDeliveries']
  /** The duration of an attempt at a binding, in milliseconds; null for an attempt that does not end. Default: null. */
  readonly attemptMs?: (bindingId: BindingId) => number | null
  /** The outcome of an attempt. Default: acknowledged. */
  readonly outcomeOf?: (bindingId: BindingId) => AttemptOutcome
  /** Concurrent attempts. Default: 16. */
  readonly concurrencyOf?: (bindingId: BindingId) => number
  readonly perSecondOf?: (bindingId: BindingId) => number | null
}

export const ACKNOWLEDGED: AttemptOutcome = { kind: 'acknowledged', level: 'done', status: 200 }
export const UNAVAILABLE: AttemptOutcome = {
  kind: 'unavailable',
  status: null,
  failure: 'connection_refused',
  retryAfterMs: null,
  error: null,
  errorDescription: null,
}

/** A dispatcher over a ledger in memory that claims like the real one, with attempts that end when the test says so. */
export function rig({
  attemptMs = () => null,
  outcomeOf = () => ACKNOWLEDGED,
  concurrencyOf = () => 16,
  perSecondOf = () => null,
  barred = () => [],
  heldMax = 400,
  attemptsMax = 2_000,
  releaseDeliveries,
  ...over
}: RigOptions = {}) {
  const worker = { id: W1, alive: true }
  const ledger = {
    due: [] as InFlightDelivery[],
    claims: [] as { readonly atMs: number; readonly limit: number }[],
    released: [] as { readonly ids: readonly DeliveryId[]; readonly workerId: WorkerId }[],
    givenUp: [] as BindingId[],
    recovered: [] as BindingId[],
    breakers: [] as (readonly [BindingId, 'opened' | 'closed'])[],
    unavailable: false,
  }
  const running = new Map<InFlightDelivery, () => void>()
  const attempted: InFlightDelivery[] = []
  const most = new Map<BindingId, number>()
  const runningOf = (bindingId: BindingId) =>
    [...running.keys()].filter((delivery) => delivery.bindingId === bindingId).length

  const limits = {
    of: (bindingId: BindingId) => ({
      concurrency: concurrencyOf(bindingId),
      perSecond: perSecondOf(bindingId),
    }),
    barred,
  }
  const monotonicMs = () => Date.now()
  const holdings = new Holdings({ limits, heldMax, attemptsMax, monotonicMs, random: () => 0.5 })
  const dispatcher = new Dispatcher({
    holdings,
    limits,
    log: createLog({ service: 'test', level: 'silent' }),
    worker: {
      id: () => worker.id,
      alive: () => worker.alive,
      leasing: (work) => work({ workerId: worker.id, number: ledger.claims.length + 1 }),
      took: () => undefined,
      ended: () => undefined,
    },
    registry: { current: () => ({ revision: 1, issuers: ISSUERS, bindings: new Map() }) },
    bulkPace: { available: () => 1_000, spend: () => undefined },
    ledger: {
      async claimDue({ slots, otherSlots, limit, after = 0 }) {
        ledger.claims.push({ atMs: Date.now(), limit })
        if (ledger.unavailable) throw new Error('the ledger is unavailable')
        const byBinding = Map.groupBy(ledger.due, ({ bindingId }) => bindingId)
        const claimed = [...byBinding]
          .sort(([a], [b]) => Number(a <= after) - Number(b <= after) || a - b)
          .flatMap(([bindingId, deliveries]) =>
            (['interactive', 'bulk'] as const).flatMap((lane) =>
              deliveries
                .filter(({ event }) => event.lane === lane)
                .slice(0, (slots.get(bindingId) ?? otherSlots)[lane]),
            ),
          )
          .slice(0, limit)
        const taken = new Set(claimed)
        ledger.due = ledger.due.filter((delivery) => !taken.has(delivery))
        // The duration of a round trip.
        await new Promise((resolve) => setTimeout(resolve, 1))
        return claimed
      },
      releaseDeliveries: releaseDeliveries ?? (async (given) => void ledger.released.push(given)),
      bringForward: async ({ bindingId }) => ledger.recovered.push(bindingId),
      giveUpUnreachable: async ({ dueBefore }) => ledger.givenUp.push(...dueBefore.keys()),
    },
    async attempt(delivery) {
      attempted.push(delivery)
      const { promise, resolve } = Promise.withResolvers<void>()
      running.set(delivery, resolve)
      most.set(delivery.bindingId, Math.max(most.get(delivery.bindingId) ?? 0, runningOf(delivery.bindingId)))
      const ms = attemptMs(delivery.bindingId)
      if (ms !== null) setTimeout(resolve, ms)
      await promise
      running.delete(delivery)
      return { outcome: outcomeOf(delivery.bindingId) } as Round
    },
    settleRound: async () => undefined,
    breakers: { note: (bindingId, state) => void ledger.breakers.push([bindingId, state]) },
    stopping: new AbortController().signal,
    startsPerTurn: 100_000,
    idleMs: IDLE_MS,
    now: () => new Date(),
    monotonicMs,
    ...over,
  })

  async function finish(...deliveries: readonly InFlightDelivery[]): Promise<void> {
    for (const delivery of deliveries) running.get(delivery)?.()
    await new Promise<void>((resolve) => process.nextTick(resolve))
  }

  return {
    dispatcher,
    holdings,
    worker,
    ledger,
    attempted,
    most,
    attemptedOf: (bindingId: number) => attempted.filter((delivery) => delivery.bindingId === bindingId),
    accept(deliveries: readonly InFlightDelivery[], workerId = W1) {
      for (const delivery of deliveries) dispatcher.accept(delivery, { workerId, number: 1 })
    },
    /** Accepts as many deliveries of a binding as it has room for, as intake does. */
    fill(bindingId: number) {
      const room = dispatcher.room(id(bindingId), 'interactive', issuerOf(bindingId))
      for (const delivery of deliveriesTo(bindingId, room))
        dispatcher.accept(delivery, { workerId: W1, number: 1 })
      return room
    },
    finish,
    async finishAll() {
      while (running.size > 0) await finish(...running.keys())
    },
  }
}
