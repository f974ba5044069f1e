import {
  type BatchHandler,
  type ConsumeOptions,
  type Consumer,
  type EventLog,
  EventLogUnavailableError,
  LedgerUnavailableError,
} from '@curfew/domain'
import type { DeliveryLedger, Registry } from '@curfew/ledger'
import type { GuardedClient } from '@curfew/outbound'
import type { MemoryEventLog, MemoryLog } from '../support/memory-event-log.ts'
import type { Random } from './random.ts'
import type { RelyingParties } from './relying-parties.ts'
import type { Scenario } from './scenario.ts'
import type { VirtualTime } from './virtual-time.ts'

/** The parts of a run that all processes share. */
export interface World {
  readonly scenario: Scenario
  readonly time: VirtualTime
  readonly ledger: DeliveryLedger
  readonly memoryLog: MemoryLog
  readonly relyingParties: RelyingParties
  /** Records an occurrence for the digest and for readers. */
  trace(line: string): void
}

/** One process, with its connections to the world. A crash cuts them off. */
export interface SimulatedProcess {
  readonly number: number
  readonly ledger: DeliveryLedger
  readonly eventLog: EventLog
  readonly client: Pick<GuardedClient, 'get' | 'post' | 'send'>
  readonly dead: boolean
  /** The event log revokes the partitions of the process. The records in progress are also handed to other processes. */
  rebalance(): void
}

/**
 * Calls that ended this long before an outage of the ledger get no answer, because the network fails before the outage is
 * noticed.
 */
const CUT_MS = 500

/** The longest time until the event log and the database notice that a process is gone, in milliseconds. */
const SESSION_MS_MAX = 2_000

/**
 * Creates the connections of one process. Every call has two steps, one before its effect and one after. At its crash step the
 * process vanishes: it does nothing more, but requests that it sent may still arrive.
 */
export function createProcess(
  world: World,
  { number, random, crashStep }: { number: number; random: Random; crashStep: number | null },
): SimulatedProcess {
  const { scenario, time, memoryLog, trace } = world
  let steps = 0
  let dead = false
  const never = new Promise<never>(() => undefined)
  const disturbed = () => !scenario.calm && time.nowMs() < scenario.quietMs
  const happens = (odds: number) => odds > 0 && disturbed() && random.chance(odds)

  /** Counts one step. @returns whether the process is still alive. */
  function step(): boolean {
    if (dead) return false
    steps += 1
    // A process that reaches the quiet time survives.
    if (crashStep === null || steps < crashStep || !disturbed()) return true
    dead = true
    trace(`process ${number} crashed at step ${steps}`)
    time.at(time.nowMs() + random.between(0, SESSION_MS_MAX), () => view.kill())
    return false
  }

  async function call<Result>(name: string, effect: () => Promise<Result>): Promise<Result> {
    const isUnavailable = () =>
      scenario.ledgerOutages.some(({ fromMs, toMs }) => isWithin(time.nowMs(), fromMs, toMs))
    if (!step() && random.chance(0.5)) return never
    await time.sleep(happens(scenario.odds.slow) ? random.between(1, scenario.odds.slowMsMax) : 1)
    if (isUnavailable()) {
      trace(`${number} ${name}: unavailable`)
      await time.sleep(random.between(1, 50))
      if (dead) return never
      throw new LedgerUnavailableError('the simulated ledger is unavailable')
    }
    const result = await effect()
    trace(`${number} ${name}: ${summary(result)}`)
    if (!step()) return never
    const cut = scenario.ledgerOutages.find(({ fromMs }) => isWithin(time.nowMs(), fromMs - CUT_MS, fromMs))
    if (cut !== undefined || happens(scenario.odds.answerLost)) {
      await time.sleep(cut === undefined ? random.between(1, 50) : cut.fromMs - time.nowMs() + 1)
      if (dead) return never
      trace(`${number} ${name}: the answer was lost`)
      throw new LedgerUnavailableError('the simulated connection broke')
    }
    if (happens(scenario.odds.slow)) await time.sleep(random.between(1, scenario.odds.slowMsMax))
    return dead ? never : result
  }

  const { ledger } = world
  const gated: DeliveryLedger = {
    readRegistry: () => call('readRegistry', async () => asBackchannel(await ledger.readRegistry())),
    readRegistryRevision: () => call('readRegistryRevision', () => ledger.readRegistryRevision()),
    disableBinding: (id, gone) => call('disableBinding', () => ledger.disableBinding(id, gone)),
    findSessions: (questions) => call('findSessions', () => ledger.findSessions(questions)),
    findSessionTokens: (request) => call('findSessionTokens', () => ledger.findSessionTokens(request)),
    oweLateLogouts: (sessions) => call('oweLateLogouts', () => ledger.oweLateLogouts(sessions)),
    planEvents: (request) => call('planEvents', () => ledger.planEvents(request)),
    applySessions: (changes) => call('applySessions', () => ledger.applySessions(changes)),
    claimDue: (request) => call('claimDue', () => ledger.claimDue(request)),
    settleDeliveries: (request) => call('settleDeliveries', () => ledger.settleDeliveries(request)),
    releaseDeliveries: (request) => call('releaseDeliveries', () => ledger.releaseDeliveries(request)),
    supersedeOlder: (request) => call('supersedeOlder', () => ledger.supersedeOlder(request)),
    bringForward: (request) => call('bringForward', () => ledger.bringForward(request)),
    giveUpUnreachable: (request) => call('giveUpUnreachable', () => ledger.giveUpUnreachable(request)),
    announceSettled: (ids) => call('announceSettled', () => ledger.announceSettled(ids)),
    noteBreakers: (request) => call('noteBreakers', () => ledger.noteBreakers(request)),
    registerWorker: (worker) => call('registerWorker', () => ledger.registerWorker(worker)),
    beat: (id, state) => call('beat', () => ledger.beat(id, state)),
    reclaimLeases: (request) => call('reclaimLeases', () => ledger.reclaimLeases(request)),
    releaseUnheld: (request) => call('releaseUnheld', () => ledger.releaseUnheld(request)),
    retireWorker: (id, how) => call('retireWorker', () => ledger.retireWorker(id, how)),
    noticeRemoved: (fault) => call('noticeRemoved', () => ledger.noticeRemoved(fault)),
  }

  let view: MemoryEventLog = memoryLog.open()
  const consumptions = new Set<{ inner: Consumer; begin(): Consumer }>()

  function consume(options: ConsumeOptions, handle: BatchHandler): Consumer {
    const gatedHandle: BatchHandler = async (batch, slow) => {
      if (!step()) return never
      if (happens(scenario.odds.delayed)) await time.sleep(random.between(1, 2_000))
      const refused = await handle(batch, slow)
      trace(`${number} handled ${batch.length} of ${options.lane}, ${refused.length} refused`)
      if (!step()) return never
      if (happens(scenario.odds.redelivered)) {
        trace(`${number} did not commit`)
        throw new EventLogUnavailableError('the simulated commit failed')
      }
      return refused
    }
    const begin = () => view.consume(options, gatedHandle)
    const consumption = { inner: begin(), begin }
    consumptions.add(consumption)
    return {
      pause: () => consumption.inner.pause(),
      resume: () => consumption.inner.resume(),
      status: () => consumption.inner.status(),
      async stop() {
        consumptions.delete(consumption)
        await consumption.inner.stop()
      },
    }
  }

  return {
    number,
    ledger: gated,
    eventLog: {
      append: () => never,
      consume,
      check: async () => undefined,
      close: async () => undefined,
    },
    client: {
      get: () => Promise.reject(new Error('no RP of the simulation has encrypted tokens')),
      send: () => Promise.reject(new Error('every channel of the simulation posts')),
      async post(request) {
        if (!step()) return never
        const answer = await world.relyingParties.post(request, number)
        trace(
          `${number} posted to ${request.uri}: ${answer.kind === 'response' ? answer.status : answer.kind}`,
        )
        return step() ? answer : never
      },
    },
    get dead() {
      return dead
    },
    rebalance() {
      if (dead || consumptions.size === 0) return
      trace(`process ${number} lost its partitions`)
      view.kill()
      view = memoryLog.open()
      for (const consumption of consumptions) consumption.inner = consumption.begin()
    },
  }
}

function isWithin(ms: number, fromMs: number, toMs: number): boolean {
  return fromMs <= ms && ms < toMs
}

/**
 * Presents all bindings as back-channel bindings. Plans use their real kinds, but this process can only attempt back-channel
 * logouts.
 */
function asBackchannel(registry: Registry): Registry {
  const bindings = [...registry.bindings.values()].map((binding) => ({ ...binding, kind: 'backchannel' }))
  return { ...registry, bindings: new Map(bindings.map((binding) => [binding.id, binding])) }
}

/** A summary of a result that distinguishes two runs. */
function summary(result: unknown): string {
  if (Array.isArray(result)) return String(result.length)
  if (result instanceof Set) return [...result].join()
  if (typeof result !== 'object' || result === null) return String(result)
  return Object.entries(result)
    .map(
      ([name, value]) =>
        `${name}=${value instanceof Map || value instanceof Set ? value.size : String(value)}`,
    )
    .join(' ')
}
