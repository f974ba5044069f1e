import { randomUUID } from 'node:crypto'
import type { Consumer, EventLog, WorkerId } from '@curfew/domain'
import type { DeliveryLedger } from '@curfew/ledger'
import { fetchJson, type GuardedClient } from '@curfew/outbound'
import { aborted, type Log, type Metrics, type RunContext, type Service } from '@curfew/runtime'
import type { ClientKeySealer, Keyring, MessageSealer, SessionTokenSealer } from '@curfew/tokens'
import { createEncrypter, createTlsIdentities, type RelayedTokens } from '@curfew/wiring'
import { createAttempt } from './attempt/attempt.ts'
import { createBindingLimits } from './dispatch/binding-limits.ts'
import { createBreakerReports } from './dispatch/breaker-reports.ts'
import { createBulkPace, createUtilization } from './dispatch/bulk-pace.ts'
import { Dispatcher } from './dispatch/dispatcher.ts'
import { Holdings } from './dispatch/holdings.ts'
import { consumeLogouts } from './intake/intake.ts'
import { checkLanes, createLaneWatch } from './intake/lane-watch.ts'
import { createRegistryCache } from './intake/registry-cache.ts'
import { consumeSessions } from './intake/sessions.ts'
import { createAnnouncer } from './settle/announcer.ts'
import { createSettleRound } from './settle/settle-round.ts'
import { createSettler } from './settle/settler.ts'
import { createLedgerClock } from './worker/ledger-clock.ts'
import { untilAble } from './worker/until-able.ts'
import { Worker } from './worker/worker.ts'

export { heartbeatOptions, readDeliveryConfig } from './config.ts'
export { logDeliveryFaults } from './worker/faults.ts'

/** The dependencies of delivery, already open. */
export interface DeliveryDeps {
  readonly eventLog: EventLog
  readonly ledger: DeliveryLedger
  readonly keyring: Keyring
  readonly clientKeys: Pick<ClientKeySealer, 'open'>
  readonly messages: MessageSealer
  /** Opens the tokens of sessions. */
  readonly sessionTokens: Pick<SessionTokenSealer, 'open'>
  /** Verifies the tokens that the relay could not verify. */
  readonly relayedTokens: Pick<RelayedTokens, 'verify'>
  readonly client: Pick<GuardedClient, 'get' | 'post' | 'send'>
  readonly log: Log
  readonly metrics: Metrics
  /** The host and process of this worker, for people to read. */
  readonly workerName: string
  /** A worker that sends no heartbeat for this long is declared dead, in milliseconds. */
  readonly leaseMs: number
  readonly chance?: Chance
  /** This machine's clock, in milliseconds since 1970. Default: `Date.now`. */
  readonly wallMs?: () => number
  /** The busy part of this process's time since the last call, 0 to 1. Default: its event loop. */
  readonly utilization?: () => number
}

/** The source of randomness. */
export interface Chance {
  /** Uniform in [0, 1). */
  random(): number
  uuid(): string
}

/** The most deliveries in memory. A delivery takes about 2 KiB. */
const HELD_MAX = 10_000
/**
 * The most attempts under way. It bounds the sockets, and the attempts that wait for unresponsive relying parties. It does not
 * bound the processor time: an attempt mostly waits.
 */
const ATTEMPTS_MAX = 4_096
/**
 * Attempts that begin in one turn of the event loop. An attempt takes about 0.3 ms of it. A lower number delays ordinary load:
 * its deliveries return to the ledger, at the cost of a second write.
 */
const STARTS_PER_TURN = 64
const IDLE_MS = 200
const REGISTRY_POLL_MS = 500

/** The delivery service, with a check that it can read the event log. */
export interface Delivery extends Service {
  /** Rejects with the reason while a lane has records that cannot be read. */
  checkLanes(): Promise<void>
}

/** Wires delivery: intake, dispatcher and attempts. Opens nothing, starts nothing. */
export function createDelivery(deps: DeliveryDeps): Delivery {
  let consumers: readonly Consumer[] = []
  return {
    name: 'delivery',
    run: (context) =>
      runDelivery(deps, context, (all) => {
        consumers = all
      }),
    checkLanes: async () => checkLanes(consumers),
  }
}

async function runDelivery(
  deps: DeliveryDeps,
  context: RunContext,
  onConsuming: (consumers: readonly Consumer[]) => void,
): Promise<void> {
  const { keyring, log } = deps
  const { stopping } = context
  // Heartbeats and breaker reports continue until everything else has ended: deliveries that are being finished are still leased.
  const ended = new AbortController()
  const parts = createParts(deps, context, ended.signal)
  const { registry, worker, dispatcher } = parts
  await untilAble(
    async () => {
      await registry.refresh()
      // With a wrong master key every delivery would become a dead letter within minutes.
      await keyring.check()
      await worker.register()
    },
    { log, stopping },
  )
  if (stopping.aborted) return

  const background = [worker.beatUntil(ended.signal), registry.followUntil(ended.signal)]
  const claiming = dispatcher.claimUntil(stopping)
  const consumers = [...consumeLogouts(parts), consumeSessions(parts)]
  onConsuming(consumers)
  context.ready()

  await aborted(stopping)
  await Promise.all([claiming, ...consumers.map((consumer) => consumer.stop())])
  await finish(parts, context.abandoning)
  ended.abort()
  await Promise.all(background)
  try {
    const released = await worker.retire({ abandoned: context.abandoning.aborted })
    if (released > 0) log.info({ event: 'deliveries.released', deliveries: released })
  } catch (error) {
    // The leases expire by themselves.
    log.warn({ event: 'worker.retire-failed', err: error })
  }
}

/** Creates the parts of a running delivery service and passes each to its users. */
function createParts(deps: DeliveryDeps, { stopping, abandoning }: RunContext, ended: AbortSignal) {
  const { eventLog, ledger, keyring, client, log, metrics, workerName: name, leaseMs } = deps
  const { random, uuid } = deps.chance ?? { random: Math.random, uuid: randomUUID }
  const monotonicMs = () => performance.now()
  const clock = createLedgerClock({ log, wallMs: deps.wallMs ?? Date.now, monotonicMs })
  const { now } = clock
  const registry = createRegistryCache({ ledger, log, pollMs: REGISTRY_POLL_MS })
  const limits = createBindingLimits(registry)
  const bounds = { heldMax: HELD_MAX, attemptsMax: ATTEMPTS_MAX }
  const holdings = new Holdings({ limits, ...bounds, monotonicMs, random })
  const newWorkerId = () => uuid() as WorkerId
  const worker = new Worker({
    ...{ ledger, log, name, newWorkerId, leaseMs, monotonicMs, clock, limits, holdings },
  })
  const announcer = createAnnouncer({ ledger, log })
  const settler = createSettler({ ledger, announcer, log, now, abandoning })
  const settleRound = createSettleRound({
    ...{ settler, ledger, worker, registry, log, metrics, abandoning },
  })
  const encrypter = createEncrypter({
    fetch: (uri, how) => fetchJson(client, uri, how),
    nowMs: () => now().getTime(),
  })
  const tls = createTlsIdentities(deps.clientKeys)
  const attempt = createAttempt({
    ...{ registry, keyring, encrypter, tls, clientKeys: deps.clientKeys, messages: deps.messages },
    ...{ ledger, sessionTokens: deps.sessionTokens, client, log, now, random, newId: uuid },
  })
  const bulkPace = createBulkPace({ utilization: deps.utilization ?? createUtilization(), monotonicMs })
  const breakers = createBreakerReports({ ledger, worker, log, ended })
  const dispatcher = new Dispatcher({
    ...{ ledger, registry, worker, holdings, limits, attempt, settleRound, breakers, bulkPace, log },
    ...{ stopping, startsPerTurn: STARTS_PER_TURN, idleMs: IDLE_MS, now, monotonicMs },
  })
  showHoldings(holdings, metrics)
  const watched = createLaneWatch({ ledger, worker, log, metrics })
  return {
    ...{ eventLog, ledger, log, metrics, registry, worker, announcer, settler, holdings, dispatcher },
    ...{
      bulkPace,
      watched,
      stopping,
      now,
      messages: deps.messages,
      relayedTokens: deps.relayedTokens,
    },
  }
}

/**
 * Ends the attempts under way, unless they are abandoned. Deliveries not yet attempted return to the ledger when the worker
 * retires.
 */
async function finish(
  { holdings, settler, announcer }: ReturnType<typeof createParts>,
  abandoning: AbortSignal,
): Promise<void> {
  holdings.clear()
  await Promise.race([holdings.idle(), aborted(abandoning)])
  await Promise.race([settler.drain(), aborted(abandoning)])
  await Promise.race([announcer.idle(), aborted(abandoning)])
}

function showHoldings(holdings: Holdings, metrics: Metrics): void {
  const { shares } = holdings
  metrics.gauge('deliveries_held', 'Deliveries leased to this worker and not settled.', () => shares.held)
  metrics.gauge('attempts_running', 'Attempts under way.', () => shares.running)
  metrics.gauge(
    'attempts_running_most',
    'Attempts under way of the issuer that has the most.',
    () => shares.mostRunning,
  )
  metrics.gauge('breakers_open', 'Bindings with an open circuit breaker.', () => holdings.open)
}
