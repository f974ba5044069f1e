import { hash } from 'node:crypto'
import { channelOf } from '@curfew/channels'
import {
  type Binding,
  type BindingId,
  type ClientId,
  type Digest,
  eventIdOf,
  type GivenEventId,
  type Issuer,
  type IssuerName,
  type LogoutEvent,
  type RetryPolicy,
  type Session,
  type SessionIndexUse,
  type Sid,
  type Subject,
  uuidV7,
} from '@curfew/domain'
import { createRandom, type Random } from './random.ts'
import { EPOCH_MS } from './virtual-time.ts'

/** What an RP does with a POST that arrives at it. */
export type Behaviour =
  | {
      readonly kind: 'answers'
      readonly status: number
      readonly latencyMs: number
      readonly retryAfterS?: number
    }
  /** Some at random fail, with 503 or a connection reset. */
  | { readonly kind: 'flaky'; readonly failing: number; readonly latencyMs: number }
  /** Takes the POST and never answers. */
  | { readonly kind: 'hangs' }
  /** Does what it is told, and says so when nobody listens any more. */
  | { readonly kind: 'late' }
  | { readonly kind: 'down' }

export interface RelyingPartyPlan {
  readonly binding: Binding
  /** What it does until then; the last phase has no end. Times are of the run, in milliseconds. */
  readonly phases: readonly { readonly untilMs: number; readonly behaviour: Behaviour }[]
  readonly registeredMs: number
  readonly removedMs: number | null
  /** When its owner registers it again as it was, which enables it where it was disabled. */
  readonly againMs: number | null
  /** Well and registered all the time, and without limits: nothing that others do may hold up its logouts. */
  readonly steady: boolean
}

export interface WorkerPlan {
  readonly startMs: number
  /** How it ends: told to stop, or cut off at its n-th step, between any two. Null: it lives until the run is over. */
  readonly end:
    | { readonly kind: 'stop'; readonly atMs: number }
    | { readonly kind: 'crash'; readonly step: number }
    | null
  /** Moments when the log takes its partitions away, and gives it others. */
  readonly rebalancesMs: readonly number[]
  /** By how much its machine's clock is ahead, in milliseconds. */
  readonly aheadMs: number
}

export interface Post {
  readonly atMs: number
  readonly event: LogoutEvent
  /** When the IdP posts the same again, as after a lost answer. */
  readonly againMs: number | null
}

/** The start of a session, as the IdP posts it. */
export interface SessionStart {
  readonly session: Session
  /** When the index has it: at times long after it began, or after its logout. */
  readonly atMs: number
}

export interface Period {
  readonly fromMs: number
  readonly toMs: number
}

/** How likely what happens to one call, from 0 to 1, while there are disturbances at all. */
export interface Odds {
  /** A commit that is done, and the answer lost. */
  readonly answerLost: number
  readonly slow: number
  readonly slowMsMax: number
  /** A record that is handed out late. */
  readonly delayed: number
  /** A batch that was handled and is not committed, or is and nobody is told. */
  readonly redelivered: number
  /** An append that fails, with or without having been done. */
  readonly appendFails: number
}

export interface Scenario {
  readonly seed: number
  /** Nothing is out of order but relying parties: bounds are tight then. */
  readonly calm: boolean
  readonly leaseMs: number
  readonly relyingParties: readonly RelyingPartyPlan[]
  readonly workers: readonly WorkerPlan[]
  readonly posts: readonly Post[]
  readonly sessionIndex: SessionIndexUse
  readonly sessions: readonly SessionStart[]
  /** When an operator has all dead letters put back. */
  readonly replaysMs: readonly number[]
  /** Records that nobody can read. */
  readonly poisonMs: readonly number[]
  readonly ledgerAway: readonly Period[]
  readonly logAway: readonly Period[]
  readonly odds: Odds
  /** From then on everything works, and whoever was down is back, in milliseconds. */
  readonly quietMs: number
  /** Until then all must be settled. */
  readonly boundMs: number
}

export const ISS = 'https://idp.example' as Issuer
const NAME = 'main' as IssuerName
/** A second issuer, whose IdP uses ids of the first. */
const TWIN_ISS = 'https://twin.example' as Issuer
const TWIN_NAME = 'twin' as IssuerName
const digest: Digest = (text) => hash('sha256', text)
const NO_ODDS: Odds = { answerLost: 0, slow: 0, slowMsMax: 0, delayed: 0, redelivered: 0, appendFails: 0 }
/** Longest that a breaker stays open after its RP is back, and then some for what has waited. */
const SETTLE_MS = 300_000
/** Where an RP is removed: what waited for it by its own schedule may wait by the default one once more, half an hour at most. */
const REMOVED_MS = 2_400_000
/** Of the few scenarios in which an RP never comes back: until each delivery has had its whole schedule, one probe after the other. */
const LONG_MS = 10 * 3_600_000
const LONG_EVERY = 1_000
/** By so much the bindings of second channels have higher numbers than those of first ones. */
const SECOND_CHANNELS = 100
const MINUTE_MS = 60_000

/** Everything that will happen to a run from outside, from its seed alone. */
export function createScenario(seed: number): Scenario {
  const random = createRandom(seed)
  const calm = random.chance(0.3)
  const long = seed % LONG_EVERY === 0
  const activeMs = random.between(3_000, 8_000)
  const own = createRelyingParties(random, { activeMs, long })
  const leaseMs = random.between(1_500, 5_000)
  const healthy = setClocks(
    createRandom(seed ^ 0xc10c),
    long ? [lastingWorker(0)] : createWorkers(random, { activeMs, calm }),
  )
  const workers = [...healthy, ...createIdleWorkers(createRandom(seed ^ 0x1d1e), calm ? 100 : activeMs)]
  const troubled = (odds: number) => !calm && random.chance(odds)
  // Of their own, so that a seed goes on to be about what it was about.
  const outages = createRandom(seed ^ 0xa3a7)
  const outage = !calm && !long && outages.chance(0.08) ? [createOutage(outages, activeMs)] : []
  const ledgerAway = [...(troubled(0.35) ? [createPeriod(random, activeMs)] : []), ...outage]
  const logAway = troubled(0.25) ? [createPeriod(random, activeMs)] : []
  const odds: Odds = {
    answerLost: troubled(0.5) ? random.pick([0.01, 0.05, 0.2]) : 0,
    slow: troubled(0.4) ? random.pick([0.02, 0.1]) : 0,
    slowMsMax: random.pick([300, 2_000, 8_000]),
    delayed: troubled(0.4) ? random.pick([0.1, 0.5]) : 0,
    redelivered: troubled(0.5) ? random.pick([0.1, 0.4]) : 0,
    appendFails: troubled(0.4) ? random.pick([0.1, 0.4]) : 0,
  }
  // Of its own as well: how far the clock of the IdP is ahead of ours, and what it says by it.
  const clock = createRandom(seed ^ 0xc10c)
  const aheadMs = calm ? 0 : clock.pick([0, 0, 2_000, 20_000, -20_000])
  const ownPosts = createPosts(random, own, activeMs).map((post) => byClockOf(clock, post, aheadMs))
  const twin = createTwin(createRandom(seed ^ 0x7717), own.length + 1, ownPosts)
  const channels = createSecondChannels(createRandom(seed ^ 0xfa11), own, activeMs)
  const relyingParties = [...own, ...channels, ...twin.relyingParties]
  const posts = [...ownPosts, ...twin.posts]
  // Of its own, so that what a seed was about before there were sessions it is about still.
  const later = createRandom(seed ^ 0x1dea)
  const sessionIndex = later.pick(['off', 'partial', 'partial', 'complete', 'complete'] as const)
  const sessions = later.chance(0.7)
    ? createSessions(later, { relyingParties: own, activeMs, clock, aheadMs })
    : []
  const replaysMs = later.chance(0.2) && !long ? [later.between(activeMs, activeMs * 2)] : []
  const poisonMs = random.chance(0.1) ? [random.between(0, activeMs)] : []
  const lastMs = Math.max(
    ...posts.map(({ atMs, againMs }) => againMs ?? atMs),
    ...sessions.map(({ atMs }) => atMs),
    ...replaysMs,
    ...workers.flatMap(({ startMs, end, rebalancesMs }) => [
      startMs,
      end?.kind === 'stop' ? end.atMs : 0,
      ...rebalancesMs,
    ]),
    ...[...ledgerAway, ...logAway].map(({ toMs }) => toMs),
    ...relyingParties.flatMap(({ phases }) => phases.map(({ untilMs }) => untilMs)).filter(Number.isFinite),
    activeMs,
  )
  const quietMs = lastMs + 500
  const removed = relyingParties.some(({ removedMs }) => removedMs !== null)
  return {
    ...{
      seed,
      calm,
      leaseMs,
      relyingParties,
      workers,
      posts,
      sessionIndex,
      sessions,
      replaysMs,
      poisonMs,
      ledgerAway,
      logAway,
      quietMs,
    },
    odds: calm ? NO_ODDS : odds,
    boundMs: quietMs + (long ? LONG_MS : removed ? REMOVED_MS : SETTLE_MS),
  }
}

function createPeriod(random: Random, activeMs: number): Period {
  const fromMs = random.between(0, activeMs)
  return { fromMs, toMs: fromMs + random.between(100, random.pick([500, 4_000])) }
}

/** Longer than any time that the code waits for, or looks back: a lease, a statement, the shortest search there ever was. */
function createOutage(random: Random, activeMs: number): Period {
  const fromMs = random.between(0, activeMs)
  return { fromMs, toMs: fromMs + random.between(16, random.chance(0.1) ? 60 : 18) * MINUTE_MS }
}

/** The clocks of some machines are wrong, by seconds or by hours. One that lives to the end has one that it may work by. */
function setClocks(random: Random, workers: readonly WorkerPlan[]): readonly WorkerPlan[] {
  return workers.map((worker) => {
    const wrong = random.chance(0.2)
    const mostMs = worker.end === null ? 50_000 : random.pick([5_000, 50_000, 3 * 3_600_000])
    const aheadMs = random.between(-mostMs, mostMs)
    return wrong ? { ...worker, aheadMs } : worker
  })
}

/** At times there are some more, whose clocks are so wrong that they may make no attempts, to the end. */
function createIdleWorkers(random: Random, startMsMax: number): readonly WorkerPlan[] {
  if (!random.chance(0.15)) return []
  return Array.from({ length: random.between(1, 4) }, () => {
    const aheadMs = random.pick([-1, 1]) * random.between(90_000, 3 * 3_600_000)
    return { ...lastingWorker(random.between(0, startMsMax)), aheadMs }
  })
}

function createRelyingParties(
  random: Random,
  { activeMs, long }: { activeMs: number; long: boolean },
): readonly RelyingPartyPlan[] {
  return Array.from({ length: random.between(1, random.pick([3, 8])) }, (_, index) => {
    const steady = random.chance(0.4) && !(long && index === 0)
    const binding = createBinding(random, index + 1, steady)
    if (steady) {
      const behaviour = {
        kind: 'answers',
        status: random.pick([200, 204]),
        latencyMs: random.between(1, 30),
      } as const
      return {
        binding,
        phases: [forEver(behaviour)],
        registeredMs: 0,
        removedMs: null,
        againMs: null,
        steady,
      }
    }
    const registeredMs = random.chance(0.1) ? random.between(1, activeMs) : 0
    const removedMs = random.chance(0.07) ? random.between(registeredMs + 1, activeMs * 1.5) : null
    const againMs =
      removedMs === null && random.chance(0.1) ? random.between(registeredMs + 1, activeMs) : null
    const phases = long && index === 0 ? [forEver({ kind: 'down' })] : createPhases(random, binding, activeMs)
    return { binding, phases, registeredMs, removedMs, againMs, steady }
  })
}

const forEver = (behaviour: Behaviour) => ({ untilMs: Number.POSITIVE_INFINITY, behaviour })

function createPhases(random: Random, binding: Binding, activeMs: number): RelyingPartyPlan['phases'] {
  const phases: { untilMs: number; behaviour: Behaviour }[] = []
  for (let untilMs = 0; untilMs < activeMs && phases.length < 4; ) {
    untilMs += random.between(200, activeMs)
    phases.push({ untilMs, behaviour: createBehaviour(random, binding) })
  }
  // Who refuses may do so to the end: that makes dead letters. Who cannot be reached comes back.
  const last = random.chance(0.2)
    ? { kind: 'answers' as const, status: random.pick([400, 404, 410, 302]), latencyMs: 10 }
    : { kind: 'answers' as const, status: 200, latencyMs: random.between(1, 50) }
  return [...phases, forEver(last)]
}

function createBehaviour(random: Random, { timeoutMs }: Binding): Behaviour {
  const latencyMs = random.between(1, 50)
  switch (random.between(0, 9)) {
    case 0:
      return { kind: 'answers', status: 200, latencyMs: random.between(50, timeoutMs - 1) }
    case 1:
      return { kind: 'hangs' }
    case 2:
      return { kind: 'late' }
    case 3:
    case 4:
      return { kind: 'down' }
    case 5:
      return { kind: 'flaky', failing: random.pick([0.1, 0.5, 0.9]), latencyMs }
    case 6:
      return { kind: 'answers', status: random.pick([500, 502, 503]), latencyMs }
    case 7:
      return {
        ...{ kind: 'answers', status: random.pick([429, 503]), latencyMs },
        retryAfterS: random.between(0, 5),
      }
    case 8:
      return { kind: 'answers', status: random.pick([400, 501, 404, 401, 201]), latencyMs }
    default:
      return { kind: 'answers', status: random.pick([200, 204, 204, 410]), latencyMs }
  }
}

function createBinding(random: Random, id: number, steady: boolean): Binding {
  const retry: RetryPolicy = {
    scheduleMs: Array.from({ length: random.between(1, 4) }, () => random.between(200, 3_000)),
    refusedScheduleMs: Array.from({ length: random.between(1, 3) }, () => random.between(200, 2_000)),
    retryAfterMsMax: 4_000,
    jitter: 0.1,
  }
  return {
    id: id as BindingId,
    kind: 'backchannel',
    endpoint: 'main',
    issuer: NAME,
    iss: ISS,
    clientId: `client-${id}` as ClientId,
    uri: `https://rp-${id}.example/logout`,
    ...channelSettings(random, steady),
    sealedSecret: null,
    timeoutMs: random.between(300, 2_000),
    concurrency: !steady && random.chance(0.3) ? random.between(1, 5) : null,
    ratePerSecond: !steady && random.chance(0.2) ? random.between(2, 20) : null,
    retry,
    allowedNetworks: [],
    tls: null,
    counts: 'done',
    fallbackFor: null,
    disabledReason: null,
  }
}

/** What its tokens name, as its registration would have it. */
function channelSettings(random: Random, steady: boolean): Pick<Binding, 'settings' | 'names' | 'widens'> {
  const session_required = !steady && random.chance(0.1)
  const subject_claims = random.pick(['both', 'sid', 'sub'])
  const settings = { session_required, subject_claims, algorithm: 'ES256', encryption: null }
  return { settings, ...channelOf('backchannel').names(settings) }
}

/** Some relying parties have a second channel: required as well, or a fallback for the first. Some have a third. */
function createSecondChannels(
  random: Random,
  own: readonly RelyingPartyPlan[],
  activeMs: number,
): readonly RelyingPartyPlan[] {
  return own.flatMap(({ binding: { id, kind, clientId }, registeredMs, removedMs, againMs }) => {
    const count = random.pick([0, 0, 1, 1, 2])
    const kinds = [kind, 'admin', 'paper']
    return Array.from({ length: count }, (_, index): RelyingPartyPlan => {
      const steady = registeredMs === 0 && removedMs === null && random.chance(0.4)
      const own = createBinding(random, id + SECOND_CHANNELS * (index + 1), steady)
      const channel = {
        kind: kinds[index + 1] ?? kind,
        fallbackFor: random.chance(0.7) ? (kinds[index] ?? kind) : null,
      }
      const widens = own.names !== 'subject' || random.chance(0.5)
      const binding = { ...own, ...channel, clientId, widens }
      const well = { kind: 'answers', status: 200, latencyMs: random.between(1, 30) } as const
      const phases = steady ? [forEver(well)] : createPhases(random, binding, activeMs)
      return { binding, phases, registeredMs, removedMs, againMs, steady }
    })
  })
}

const lastingWorker = (startMs: number): WorkerPlan => ({ startMs, end: null, rebalancesMs: [], aheadMs: 0 })

/** One of them lives to the end; the others come and go, and may go in any way. */
function createWorkers(
  random: Random,
  { activeMs, calm }: { activeMs: number; calm: boolean },
): readonly WorkerPlan[] {
  const others = random.pick([0, 0, 1, 2, 3])
  if (calm) return Array.from({ length: others + 1 }, () => lastingWorker(random.between(0, 100)))
  const mortal = Array.from({ length: others }, (): WorkerPlan => {
    const startMs = random.chance(0.5) ? 0 : random.between(0, activeMs)
    const crash = { kind: 'crash', step: random.between(1, random.pick([10, 60, 200])) } as const
    const stop = { kind: 'stop', atMs: startMs + random.between(1, activeMs) } as const
    const end = random.chance(0.7) ? crash : stop
    return { startMs, end, rebalancesMs: rebalances(random, activeMs), aheadMs: 0 }
  })
  // At times the last one only comes when all others have gone.
  const startMs = random.chance(0.7) ? 0 : random.between(0, activeMs)
  return [...mortal, { startMs, end: null, rebalancesMs: rebalances(random, activeMs), aheadMs: 0 }]
}

function rebalances(random: Random, activeMs: number): readonly number[] {
  if (random.chance(0.7)) return []
  return Array.from({ length: random.between(1, 3) }, () => random.between(0, activeMs))
}

function createPosts(
  random: Random,
  relyingParties: readonly RelyingPartyPlan[],
  activeMs: number,
): readonly Post[] {
  const people = random.between(1, 8)
  const clients = relyingParties.map(({ binding }) => binding.clientId)
  const burst = random.chance(0.05)
  const count = burst ? random.between(60, 150) : random.between(1, random.pick([6, 20]))
  return Array.from({ length: count }, () => {
    const atMs = burst ? random.between(0, 1_000) : random.between(0, activeMs)
    const at = new Date(EPOCH_MS + atMs)
    const person = burst ? random.between(1, 1_000) : random.between(1, people)
    const sub = `person-${person}` as Subject
    const sid = `session-${person}-${random.between(1, 2)}` as Sid
    const bytes = Uint8Array.from({ length: 10 }, () => random.between(0, 255))
    const asserted = {
      ...identity(ISS, uuidV7(at, bytes) as GivenEventId),
      reason: 'user' as const,
      initiator: random.chance(0.3) ? random.pick(clients) : null,
      includeInitiator: random.chance(0.2),
      clients: random.chance(0.2) ? [...new Set([random.pick(clients), random.pick(clients)])] : null,
      lane: random.chance(0.25) ? ('bulk' as const) : ('interactive' as const),
      occurredAt: at,
      acceptedAt: at,
    }
    const event: LogoutEvent = random.chance(0.5)
      ? { ...asserted, scope: 'session', sid, sub: random.chance(0.7) ? sub : null }
      : random.chance(0.2)
        ? { ...asserted, scope: 'device', sub, sid: null, device: 'phone' }
        : { ...asserted, scope: 'subject', sub, sid: null }
    return { atMs, event, againMs: random.chance(0.1) ? atMs + random.between(1, 5_000) : null }
  })
}

/** A post whose IdP states when the logout happened, by its own clock; or does not. */
function byClockOf(clock: Random, post: Post, aheadMs: number): Post {
  const { acceptedAt } = post.event
  const occurredAt = clock.chance(0.5) ? new Date(acceptedAt.getTime() + aheadMs) : null
  return { ...post, event: { ...post.event, occurredAt } }
}

const identity = (iss: Issuer, givenId: GivenEventId) => ({
  id: eventIdOf(iss, givenId, digest),
  givenId,
  iss,
})

/** In some runs a second issuer posts logouts of its own under ids of the first issuer, before or after the first does. */
function createTwin(
  random: Random,
  id: number,
  others: readonly Post[],
): Pick<Scenario, 'relyingParties' | 'posts'> {
  if (!random.chance(0.4)) return { relyingParties: [], posts: [] }
  const binding = { ...createBinding(random, id, true), issuer: TWIN_NAME, iss: TWIN_ISS }
  const behaviour = { kind: 'answers', status: 200, latencyMs: random.between(1, 30) } as const
  const posts = others
    .filter(() => random.chance(0.5))
    .map(({ atMs: otherMs, event: { givenId } }, index): Post => {
      const atMs = Math.max(0, otherMs + random.between(-500, 500))
      const at = new Date(EPOCH_MS + atMs)
      const asserted = {
        ...{ reason: null, initiator: null, includeInitiator: false, clients: null },
        ...{ lane: random.pick(['interactive', 'bulk'] as const), occurredAt: at, acceptedAt: at },
      }
      const sub = `twin-${index}` as Subject
      return {
        atMs,
        event: { ...asserted, ...identity(TWIN_ISS, givenId), scope: 'subject', sub, sid: null },
        againMs: random.chance(0.2) ? atMs + random.between(1, 5_000) : null,
      }
    })
  return {
    relyingParties: [
      {
        ...{ binding, phases: [forEver(behaviour)], registeredMs: 0, removedMs: null, againMs: null },
        steady: true,
      },
    ],
    posts,
  }
}

/** Sessions of the people who log out, some begun before the run, some after, each of a client once. */
function createSessions(
  random: Random,
  {
    relyingParties,
    activeMs,
    clock,
    aheadMs,
  }: { relyingParties: readonly RelyingPartyPlan[]; activeMs: number; clock: Random; aheadMs: number },
): readonly SessionStart[] {
  const starts = Array.from({ length: random.between(1, random.pick([5, 30])) }, (): SessionStart => {
    const { binding } = random.pick(relyingParties)
    const person = random.between(1, 8)
    const startMs = random.between(-5_000, activeMs)
    const lastsMs = random.chance(0.05) ? random.between(500, 20_000) : 86_400_000
    const device = random.pick([null, 'phone', 'laptop'])
    const atMs = Math.max(0, startMs) + (random.chance(0.3) ? random.between(1, 6_000) : 1)
    // It is posted when it begins, or a moment before the index has it.
    const acceptedMs = clock.chance(0.7) ? startMs : atMs
    const startedStated = clock.chance(0.7)
    return {
      session: {
        iss: ISS,
        sub: `person-${person}` as Subject,
        sid: `session-${person}-${random.between(1, 4)}` as Sid,
        clientId: binding.clientId,
        device,
        startedAt: new Date(EPOCH_MS + (startedStated ? startMs + aheadMs : acceptedMs)),
        startedStated,
        acceptedAt: new Date(EPOCH_MS + acceptedMs),
        expiresAt: new Date(EPOCH_MS + startMs + lastsMs),
      },
      atMs,
    }
  })
  const keyOf = ({ session: { sub, sid, clientId } }: SessionStart) => `${sub} ${sid} ${clientId}`
  return [...new Map(starts.map((start) => [keyOf(start), start])).values()]
}
