import { createHash } from 'node:crypto'
import { encodeLogoutEvent } from '@curfew/contract'
import { createDelivery } from '@curfew/delivery'
import {
  type BindingId,
  type DeliveryId,
  type EventId,
  EventLogUnavailableError,
  type LogoutEvent,
} from '@curfew/domain'
import type { Log, Metrics } from '@curfew/runtime'
import type { Keyring } from '@curfew/tokens'
import { createMemoryLog, type MemoryLog } from '../support/memory-event-log.ts'
import { createMemoryLedger, type MemoryLedger } from '../support/memory-ledger.ts'
import { findUnaccounted } from './accounted.ts'
import { END_OFFERS_MS } from './feed-invariants.ts'
import { findViolations } from './invariants.ts'
import { createProcess, type SimulatedProcess, type World } from './process.ts'
import { createRandom, type Random } from './random.ts'
import { createRelyingParties, type Received } from './relying-parties.ts'
import { createScenario, ISS, type Scenario, type WorkerPlan } from './scenario.ts'
import { inVirtualTime, type VirtualTime } from './virtual-time.ts'

/** The result of a run, which the invariants check. */
export interface Run {
  readonly scenario: Scenario
  readonly ledger: MemoryLedger
  readonly memoryLog: MemoryLog
  readonly received: readonly Received[]
  /** Events that the IdP knows to be accepted, with the time of acceptance. */
  readonly accepted: ReadonlyMap<EventId, { readonly event: LogoutEvent; readonly acceptedMs: number }>
  /** Whether everything was settled within the bound. */
  readonly finished: boolean
  /** The open breakers of every process at the end. */
  readonly breakersOpen: ReadonlyMap<number, number>
  /** Deliveries that were, at some instant, neither settled, due nor listed in a lease. */
  readonly unaccounted: readonly string[]
  /** When a resource server read each delivery first, in milliseconds. */
  readonly fetched: ReadonlyMap<DeliveryId, number>
  /** Processes that did not end as they should. */
  readonly faults: readonly string[]
}

export interface Verdict {
  readonly seed: number
  /** Empty if all invariants hold. */
  readonly violations: readonly string[]
  /** A digest of the ordered trace. */
  readonly digest: string
  readonly deliveries: number
  readonly posts: number
  /** The virtual duration, in milliseconds. */
  readonly lastedMs: number
}

export interface SimulateOptions {
  /** Receives every line of the trace. */
  readonly onTrace?: (line: string) => void
}

/** The time after everything is settled in which any further POST is a violation, in milliseconds. */
const AFTER_END_MS = 3_000
/** The time from the signal to stop until running attempts are abandoned, in milliseconds. */
const STOP_MS = 5_000
const APPEND_AGAIN_MS = 100

/** Runs the scenario of a seed and checks the invariants. The same seed gives the same run. */
export async function simulate(seed: number, { onTrace }: SimulateOptions = {}): Promise<Verdict> {
  const scenario = createScenario(seed)
  const random = createRandom(seed ^ 0x5eed)
  const digest = createHash('sha256')
  return inVirtualTime(random.fork().next, async (time) => {
    const trace = (line: string) => {
      const stamped = `${time.nowMs()} ${line}`
      digest.update(stamped).update('\n')
      onTrace?.(stamped)
    }
    const run = await perform({ scenario, random, time, trace })
    return {
      seed,
      violations: findViolations(run),
      digest: digest.digest('hex'),
      deliveries: run.ledger.deliveries.size,
      posts: run.received.length,
      lastedMs: time.nowMs(),
    }
  })
}

interface Stage {
  readonly scenario: Scenario
  readonly random: Random
  readonly time: VirtualTime
  readonly trace: (line: string) => void
}

async function perform(stage: Stage): Promise<Run> {
  const { scenario, random, time, trace } = stage
  const ledger = createMemoryLedger({ now: time.now })
  const memoryLog = createMemoryLog({ partitions: 4, sleep: time.sleep })
  const relyingParties = createRelyingParties(scenario.relyingParties, { time, random: random.fork() })
  const world: World = { scenario, time, ledger, memoryLog, relyingParties, trace }

  registerRelyingParties(stage, ledger)
  runIndex(stage, ledger)
  const fetched = runFeeds(stage, ledger)
  for (const { fromMs, toMs } of scenario.logOutages) {
    time.at(fromMs, () => memoryLog.setAway(true))
    time.at(toMs, () => memoryLog.setAway(false))
  }
  const accepted = postEvents(stage, memoryLog)
  const hosts = scenario.workers.map((plan, index) => startWorker(world, plan, index + 1, random.fork()))

  const unaccounted = new Set<string>()
  const finished = await time.run(
    // Every 100 ms only, because the check is slow.
    everyMs(time, 100, () => {
      for (const what of findUnaccounted({ scenario, ledger, memoryLog, accepted, nowMs: time.nowMs() }))
        unaccounted.add(what)
      if (time.nowMs() < scenario.quietMs || accepted.size < scenario.posts.length) return false
      return memoryLog.depth('interactive') + memoryLog.depth('bulk') === 0 && isSettled(ledger)
    }),
    scenario.boundMs,
  )
  await time.run(() => false, AFTER_END_MS)
  const breakersOpen = new Map(
    hosts.filter((host) => host.alive()).map((host) => [host.number, host.breakersOpen()]),
  )
  const faults = await stopAll(time, hosts)
  return {
    ...{ scenario, ledger, memoryLog, accepted, finished, breakersOpen, faults, fetched },
    unaccounted: [...unaccounted],
    received: relyingParties.received,
  }
}

const isSettled = (ledger: MemoryLedger) => ledger.settled === ledger.deliveries.size && !ledger.journalled

const POST_EVERY_MS = 200

/** Runs the session index: sessions begin, a bookkeeper projects plans and settlements, and an operator replays dead letters. */
function runIndex({ scenario, time, trace }: Stage, ledger: MemoryLedger): void {
  const own = createRandom(scenario.seed ^ 0x0bed)
  for (const { atMs, session } of scenario.sessions) {
    time.at(atMs, () => {
      trace(`${session.clientId} has ${session.sid}`)
      ledger.startSession(session)
      // The worker that applied the session looks for late logouts a little later.
      time.at(atMs + own.between(0, 300), () => void ledger.oweLateLogouts([session]))
    })
  }
  for (const atMs of scenario.replaysMs)
    time.at(atMs, () => trace(`${ledger.replay()} dead letters replayed`))
  const post = () => {
    ledger.projectSessions()
    time.at(time.nowMs() + POST_EVERY_MS, post)
  }
  time.at(POST_EVERY_MS, post)
}

/** Lets resource servers read: a read acknowledges what the read before it has returned. A bookkeeper ends the offers. */
function runFeeds({ scenario, time, trace }: Stage, ledger: MemoryLedger): Run['fetched'] {
  const fetched = new Map<DeliveryId, number>()
  const every = (ms: number, work: () => void) => {
    const again = () => {
      work()
      time.at(time.nowMs() + ms, again)
    }
    time.at(ms, again)
  }
  for (const { binding, readEveryMs, stall } of scenario.feeds) {
    ledger.putBinding(binding)
    let seen: readonly DeliveryId[] = []
    every(readEveryMs, () => {
      const nowMs = time.nowMs()
      if (stall !== null && nowMs >= stall.fromMs && nowMs < stall.toMs) return
      const settled = ledger.acknowledgeFetched(seen, { level: 'received', evidence: 'applied_to:1' })
      if (settled.length > 0) trace(`feed ${binding.id} applied ${settled.length}`)
      seen = [...ledger.deliveries.values()]
        .filter(({ bindingId, state }) => bindingId === binding.id && state === 'offered')
        .map(({ id }) => id)
      for (const id of seen) if (!fetched.has(id)) fetched.set(id, nowMs)
    })
  }
  if (scenario.feeds.length > 0) every(END_OFFERS_MS, () => void ledger.endOffers())
  return fetched
}

function everyMs(time: VirtualTime, ms: number, condition: () => boolean): () => boolean {
  let nextMs = 0
  return () => {
    if (time.nowMs() < nextMs) return false
    nextMs = time.nowMs() + ms
    return condition()
  }
}

function registerRelyingParties({ scenario, time, trace }: Stage, ledger: MemoryLedger): void {
  ledger.putIssuer(ISS, scenario.sessionIndex)
  if (scenario.pairwise.size > 0) ledger.setPairwise({ byDefault: false, except: scenario.pairwise })
  for (const { binding, registeredMs, removedMs, againMs } of scenario.relyingParties) {
    if (registeredMs === 0) ledger.putBinding(binding)
    else time.at(registeredMs, () => change('registered', binding.id, () => ledger.putBinding(binding)))
    if (againMs !== null) {
      time.at(againMs, () => change('registered again', binding.id, () => ledger.putBinding(binding)))
    }
    if (removedMs !== null) {
      time.at(removedMs, () => change('removed', binding.id, () => ledger.removeBinding(binding.id)))
    }
  }
  function change(what: string, id: BindingId, work: () => void): void {
    trace(`binding ${id} ${what}`)
    work()
  }
}

/** Lets the IdP post events. It repeats a post until the event is accepted. */
function postEvents(
  { scenario, random, time, trace }: Stage,
  memoryLog: MemoryLog,
): Run['accepted'] & Map<EventId, unknown> {
  const accepted = new Map<EventId, { event: LogoutEvent; acceptedMs: number }>()
  const log = memoryLog.open()
  const own = random.fork()
  const disturbed = () => !scenario.calm && time.nowMs() < scenario.quietMs
  memoryLog.faults.append = async () => {
    if (disturbed() && own.chance(scenario.odds.appendFails)) {
      throw new EventLogUnavailableError('the simulated append failed')
    }
  }

  async function append(event: LogoutEvent): Promise<void> {
    for (;;) {
      try {
        await log.append([encodeLogoutEvent(event, '')])
        break
      } catch (error) {
        if (!(error instanceof EventLogUnavailableError)) throw error
        await time.sleep(APPEND_AGAIN_MS)
      }
    }
    if (accepted.has(event.id)) return
    accepted.set(event.id, { event, acceptedMs: time.nowMs() })
    trace(`accepted ${event.id}`)
  }

  for (const { atMs, event, againMs } of scenario.posts) {
    time.at(atMs, () => void append(event))
    if (againMs !== null) time.at(againMs, () => void append(event))
  }
  for (const atMs of scenario.poisonMs) {
    const value = new TextEncoder().encode('not a logout event')
    time.at(atMs, () => {
      // The IdP does not repeat this record if the event log is unavailable, because it was not accepted.
      log
        .append([{ lane: 'interactive', key: 'poison', value, headers: {} }])
        .catch(() => trace('poison lost'))
    })
  }
  return accepted
}

/** The host of a worker. */
interface Host {
  readonly number: number
  alive(): boolean
  breakersOpen(): number
  stop(): void
  abandon(): void
  /** Null while the worker runs. */
  ended(): { readonly error: unknown } | null
}

function startWorker(world: World, plan: WorkerPlan, number: number, random: Random): Host {
  const { time, scenario, trace } = world
  const stopping = new AbortController()
  const abandoning = new AbortController()
  const crashStep = plan.end?.kind === 'crash' ? plan.end.step : null
  let process: SimulatedProcess | null = null
  let ended: { readonly error: unknown } | null = null
  let breakersOpen = () => 0
  const metrics = createMetrics((name, collect) => {
    if (name === 'breakers_open') breakersOpen = () => collect() ?? 0
  })

  function start(): void {
    trace(`process ${number} starts`)
    process = createProcess(world, { number, random: random.fork(), crashStep })
    const delivery = createDelivery({
      eventLog: process.eventLog,
      ledger: process.ledger,
      client: process.client,
      keyring: KEYRING,
      clientKeys: { open: () => Promise.reject(new Error('no RP has a client certificate')) },
      messages: UNSEALED,
      sessionTokens: { open: async () => [] },
      relayedTokens: VERIFIED,
      log: SILENT,
      metrics,
      workerName: `worker-${number}`,
      leaseMs: scenario.leaseMs,
      wallMs: () => Date.now() + plan.aheadMs,
      chance: { random: random.next, uuid: random.uuid },
      utilization: () => 0.2,
    })
    delivery.run({ stopping: stopping.signal, abandoning: abandoning.signal, ready: () => undefined }).then(
      () => {
        ended = { error: null }
      },
      (error: unknown) => {
        ended = { error }
      },
    )
  }

  const stop = () => {
    trace(`process ${number} gets the signal to stop`)
    stopping.abort()
    time.at(time.nowMs() + STOP_MS, () => abandoning.abort())
  }
  time.at(plan.startMs, start)
  if (plan.end?.kind === 'stop') time.at(plan.end.atMs, stop)
  for (const atMs of plan.rebalancesMs) time.at(atMs, () => process?.rebalance())
  return {
    number,
    alive: () => process !== null && !process.dead && !stopping.signal.aborted,
    breakersOpen: () => breakersOpen(),
    stop() {
      if (!stopping.signal.aborted) stop()
    },
    abandon: () => abandoning.abort(),
    ended: () => ended ?? (process?.dead === true ? { error: null } : null),
  }
}

/** Ends every process as an operator would. @returns the processes that did not end as they should. */
async function stopAll(time: VirtualTime, hosts: readonly Host[]): Promise<readonly string[]> {
  const early = hosts.filter((host) => host.alive() && host.ended() !== null)
  for (const host of hosts) host.stop()
  const allEnded = () => hosts.every((host) => host.ended() !== null)
  await time.run(allEnded, STOP_MS * 4)
  return [
    ...early.map(({ number }) => `process ${number} ended without the signal to stop`),
    ...hosts.filter((host) => host.ended() === null).map(({ number }) => `process ${number} did not stop`),
    ...hosts.flatMap((host) => {
      const error = host.ended()?.error ?? null
      return error === null ? [] : [`process ${host.number} failed: ${String(error)}`]
    }),
  ]
}

/** The simulated relay has verified every token. */
const VERIFIED = { verify: () => Promise.reject(new Error('no token is unverified')) }

/** Sealing is not simulated: the text of a first message stays as it is. */
const UNSEALED = { seal: async (message: string) => message, open: async (sealed: string) => sealed }

const KEYRING: Keyring = {
  // Only the claims of a token matter here. Other tests check the signature.
  signer: async (_issuer, algorithm) => ({
    kid: 'k',
    algorithm,
    sign: async (_typ, claims) => JSON.stringify(claims),
  }),
  ensure: async () => undefined,
  jwks: async () => ({ keys: [] }),
  check: async () => undefined,
}

const SILENT: Log = {
  isLevelEnabled: () => false,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

/** Metrics that are discarded, except that `onGauge` receives the gauges. */
function createMetrics(onGauge: (name: string, collect: () => number | null) => void): Metrics {
  return {
    counter: () => ({ inc: () => undefined }) as unknown as ReturnType<Metrics['counter']>,
    gauge(name, _help, collect) {
      onGauge(name, collect)
      return {} as ReturnType<Metrics['gauge']>
    },
    gauges: () => ({}) as ReturnType<Metrics['gauges']>,
    histogram: () => ({ observe: () => undefined }) as unknown as ReturnType<Metrics['histogram']>,
    expose: async () => ({ contentType: '', body: '' }),
  }
}
