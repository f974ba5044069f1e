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

/** The behaviour of an RP at a POST. */
export type Behaviour =
  | {
      readonly kind: 'answers'
      readonly status: number
      readonly latencyMs: number
      readonly retryAfterS?: number
    }
  /** Fails at random, with 503 or a connection reset. */
  | { readonly kind: 'flaky'; readonly failing: number; readonly latencyMs: number }
  /** Takes the POST and never answers. */
  | { readonly kind: 'hangs' }
  /** Logs the user out, but answers after the sender has given up. */
  | { readonly kind: 'late' }
  | { readonly kind: 'unavailable' }

export interface RelyingPartyPlan {
  readonly binding: Binding
  /** The behaviour until `untilMs`. The last phase has no end. Times are milliseconds of the run. */
  readonly phases: readonly { readonly untilMs: number; readonly behaviour: Behaviour }[]
  readonly registeredMs: number
  readonly removedMs: number | null
  /** The time when its owner registers it again unchanged, which enables it if it was disabled. */
  readonly againMs: number | null
  /** Always available and registered, and without limits: nothing may delay its logouts. */
  readonly steady: boolean
}

/** A resource server, which fetches its logouts. */
export interface FeedPlan {
  readonly binding: Binding
  readonly readEveryMs: number
  /** When it does not read; null if it always does. */
  readonly stall: Period | null
}

export interface WorkerPlan {
  readonly startMs: number
  /**
   * The end of the worker: a signal to stop, or a crash at its n-th step, between any two. Null if it lives until the end of the
   * run.
   */
  readonly end:
    | { readonly kind: 'stop'; readonly atMs: number }
    | { readonly kind: 'crash'; readonly step: number }
    | null
  /** The times when the event log revokes its partitions and assigns others. */
  readonly rebalancesMs: readonly number[]
  /** How far the clock of its machine is ahead, in milliseconds. */
  readonly aheadMs: number
}

export interface Post {
  readonly atMs: number
  readonly event: LogoutEvent
  /** When the IdP posts the event again, as after a lost answer. */
  readonly againMs: number | null
}

/** The start of a session, as the IdP posts it. */
export interface SessionStart {
  readonly session: Session
  /** When the index gets it, which may be long after its start or after its logout. */
  readonly atMs: number
}

export interface Period {
  readonly fromMs: number
  readonly toMs: number
}

/** The probabilities of disturbances of one call, from 0 to 1, while there are any. */
export interface Odds {
  /** A commit that succeeds but whose answer is lost. */
  readonly answerLost: number
  readonly slow: number
  readonly slowMsMax: number
  /** A record that is handed out late. */
  readonly delayed: number
  /** A handled batch whose commit fails, or whose successful commit is not reported. */
  readonly redelivered: number
  /** An append that fails, with or without effect. */
  readonly appendFails: number
}

export interface Scenario {
  readonly seed: number
  /** True if only relying parties cause trouble. The bounds are tight then. */
  readonly calm: boolean
  readonly leaseMs: number
  readonly relyingParties: readonly RelyingPartyPlan[]
  readonly feeds: readonly FeedPlan[]
  readonly workers: readonly WorkerPlan[]
  readonly posts: readonly Post[]
  readonly sessionIndex: SessionIndexUse
  /** The clients that know each user by a `sub` of their own (`subjectAt`). */
  readonly pairwise: ReadonlySet<ClientId>
  readonly sessions: readonly SessionStart[]
  /** When an operator replays all dead letters. */
  readonly replaysMs: readonly number[]
  /** When unreadable records are appended. */
  readonly poisonMs: readonly number[]
  readonly ledgerOutages: readonly Period[]
  readonly logOutages: readonly Period[]
  readonly odds: Odds
  /** From this time on everything works and every RP has recovered, in milliseconds. */
  readonly quietMs: number
  /** Everything must be settled at this time, in milliseconds. */
  readonly boundMs: number
}

export const ISS = 'https://idp.example' as Issuer
const NAME = 'main' as IssuerName
/** A second issuer, whose IdP reuses ids of the first. */
const TWIN_ISS = 'https://twin.example' as Issuer
const TWIN_NAME = 'twin' as IssuerName
const digest: Digest = (text) => hash('sha256', text)
const NO_ODDS: Odds = { answerLost: 0, slow: 0, slowMsMax: 0, delayed: 0, redelivered: 0, appendFails: 0 }
/** The longest time that a breaker stays open after its RP has recovered, plus time for the deliveries that waited. */
const SETTLE_MS = 300_000
/** The same if an RP is removed: its waiting deliveries may wait again by the default schedule, half an hour at most. */
const REMOVED_MS = 2_400_000
/** The same for the few scenarios with an RP that never recovers: every delivery uses its whole schedule, one probe at a time. */
const LONG_MS = 10 * 3_600_000
const LONG_EVERY = 1_000
/** The offset between the binding ids of second and first channels. */
const SECOND_CHANNELS = 100
/** The binding id of the first feed. */
const FEEDS = 900
const MINUTE_MS = 60_000

/** Creates all external occurrences of a run from its seed. */
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
  // A separate source, so that outages do not change the rest of a seed's scenario.
  const outages = createRandom(seed ^ 0xa3a7)
  const outage = !calm && !long && outages.chance(0.08) ? [createOutage(outages, activeMs)] : []
  const ledgerOutages = [...(troubled(0.35) ? [createPeriod(random, activeMs)] : []), ...outage]
  const logOutages = troubled(0.25) ? [createPeriod(random, activeMs)] : []
  const odds: Odds = {
    answerLost: troubled(0.5) ? random.pick([0.01, 0.05, 0.2]) : 0,
    slow: troubled(0.4) ? random.pick([0.02, 0.1]) : 0,
    slowMsMax: random.pick([300, 2_000, 8_000]),
    delayed: troubled(0.4) ? random.pick([0.1, 0.5]) : 0,
    redelivered: troubled(0.5) ? random.pick([0.1, 0.4]) : 0,
    appendFails: troubled(0.4) ? random.pick([0.1, 0.4]) : 0,
  }
  // A separate source too: the offset of the IdP's clock, and the times that the IdP states.
  const clock = createRandom(seed ^ 0xc10c)
  const aheadMs = calm ? 0 : clock.pick([0, 0, 2_000, 20_000, -20_000])
  const ownPosts = createPosts(random, own, activeMs).map((post) => byClockOf(clock, post, aheadMs))
  const twin = createTwin(createRandom(seed ^ 0x7717), own.length + 1, ownPosts)
  // A separate source, so that relayed logouts do not change the rest of a seed's scenario.
  const pairwise = createPairwise(createRandom(seed ^ 0xba15), own)
  const relay = createRelayed(createRandom(seed ^ 0x5e1a), own, ownPosts).map((post) =>
    addressed(post, pairwise),
  )
  const channels = createSecondChannels(createRandom(seed ^ 0xfa11), own, activeMs)
  const relyingParties = [...own, ...channels, ...twin.relyingParties]
  const feeds = createFeeds(createRandom(seed ^ 0xfeed), activeMs)
  const posts = [...relay, ...twin.posts]
  // A separate source, so that sessions do not change the rest of a seed's scenario.
  const later = createRandom(seed ^ 0x1dea)
  const sessionIndex = later.pick(['off', 'partial', 'partial', 'complete', 'complete'] as const)
  const sessions = later.chance(0.7)
    ? createSessions(later, { relyingParties: own, pairwise, activeMs, clock, aheadMs })
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
    ...[...ledgerOutages, ...logOutages].map(({ toMs }) => toMs),
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
      feeds,
      workers,
      posts,
      sessionIndex,
      pairwise,
      sessions,
      replaysMs,
      poisonMs,
      ledgerOutages,
      logOutages,
      quietMs,
    },
    odds: calm ? NO_ODDS : odds,
    boundMs: quietMs + (long ? LONG_MS : removed ? REMOVED_MS : SETTLE_MS),
  }
}

/** In some runs, some clients are pairwise. */
function createPairwise(random: Random, relyingParties: readonly RelyingPartyPlan[]): ReadonlySet<ClientId> {
  if (!random.chance(0.5)) return new Set()
  return new Set(relyingParties.map(({ binding }) => binding.clientId).filter(() => random.chance(0.4)))
}

/** The `sub` by which a client knows a user. */
function subjectAt(pairwise: ReadonlySet<ClientId>, sub: Subject, clientId: ClientId): Subject {
  return pairwise.has(clientId) ? (`${sub}@${clientId}` as Subject) : sub
}

/** An event for one pairwise client has that client's `sub`, and so has the token of a relayed event. */
function addressed(post: Post, pairwise: ReadonlySet<ClientId>): Post {
  const { event } = post
  const { relayed } = event
  const clientId = relayed?.clientId ?? (event.clients?.length === 1 ? event.clients[0] : undefined)
  if (clientId === undefined || event.sub === null) return post
  const sub = subjectAt(pairwise, event.sub, clientId)
  if (relayed === undefined) return { ...post, event: { ...event, sub } }
  const [header, payload = '', signature] = relayed.token.split('.')
  const claims = { ...JSON.parse(Buffer.from(payload, 'base64url').toString()), sub }
  const token = `${header}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.${signature}`
  return { ...post, event: { ...event, sub, relayed: { ...relayed, token } } }
}

function createPeriod(random: Random, activeMs: number): Period {
  const fromMs = random.between(0, activeMs)
  return { fromMs, toMs: fromMs + random.between(100, random.pick([500, 4_000])) }
}

/** An outage longer than any time that the code waits or looks back, such as a lease or a statement timeout. */
function createOutage(random: Random, activeMs: number): Period {
  const fromMs = random.between(0, activeMs)
  return { fromMs, toMs: fromMs + random.between(16, random.chance(0.1) ? 60 : 18) * MINUTE_MS }
}

/**
 * Sets some machines' clocks wrong, by seconds or hours. The clock of a worker that lives to the end stays within the tolerance.
 */
function setClocks(random: Random, workers: readonly WorkerPlan[]): readonly WorkerPlan[] {
  return workers.map((worker) => {
    const wrong = random.chance(0.2)
    const mostMs = worker.end === null ? 50_000 : random.pick([5_000, 50_000, 3 * 3_600_000])
    const aheadMs = random.between(-mostMs, mostMs)
    return wrong ? { ...worker, aheadMs } : worker
  })
}

/** Sometimes adds workers whose clocks are so wrong that they may never make attempts. */
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
        phases: [forever(behaviour)],
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
    const phases =
      long && index === 0 ? [forever({ kind: 'unavailable' })] : createPhases(random, binding, activeMs)
    return { binding, phases, registeredMs, removedMs, againMs, steady }
  })
}

const forever = (behaviour: Behaviour) => ({ untilMs: Number.POSITIVE_INFINITY, behaviour })

function createPhases(random: Random, binding: Binding, activeMs: number): RelyingPartyPlan['phases'] {
  const phases: { untilMs: number; behaviour: Behaviour }[] = []
  for (let untilMs = 0; untilMs < activeMs && phases.length < 4; ) {
    untilMs += random.between(200, activeMs)
    phases.push({ untilMs, behaviour: createBehaviour(random, binding) })
  }
  // An RP that refuses may do so to the end, which makes dead letters. An unavailable RP recovers.
  const last = random.chance(0.2)
    ? { kind: 'answers' as const, status: random.pick([400, 404, 410, 302]), latencyMs: 10 }
    : { kind: 'answers' as const, status: 200, latencyMs: random.between(1, 50) }
  return [...phases, forever(last)]
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
      return { kind: 'unavailable' }
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
    offer: null,
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
    traceContext: false,
    allowedNetworks: [],
    tls: null,
    counts: 'done',
    fallbackFor: null,
    disabledReason: null,
  }
}

/** The claims of an RP's tokens, as registered. */
function channelSettings(
  random: Random,
  steady: boolean,
): Pick<Binding, 'settings' | 'names' | 'widens' | 'always'> {
  const session_required = !steady && random.chance(0.1)
  const subject_claims = random.pick(['both', 'sid', 'sub'])
  const settings = {
    ...{ session_required, subject_claims, algorithm: 'ES256', encryption: null },
    ...{ token_type: 'logout+jwt', already_ended_errors: [] },
  }
  return { settings, ...channelOf('backchannel').names(settings) }
}

/** Gives some relying parties a second channel, either required or a fallback for the first. Some have a third. */
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
      // Some of these channels end the sessions of the issuer itself.
      const always = channel.kind === 'admin' && random.chance(0.5)
      const binding = { ...own, ...channel, clientId, widens, always }
      const healthyAnswer = { kind: 'answers', status: 200, latencyMs: random.between(1, 30) } as const
      const phases = steady ? [forever(healthyAnswer)] : createPhases(random, binding, activeMs)
      return { binding, phases, registeredMs, removedMs, againMs, steady }
    })
  })
}

/** In some runs, one or two resource servers fetch their logouts. Some of them stop reading for a while, or for ever. */
function createFeeds(random: Random, activeMs: number): readonly FeedPlan[] {
  const count = random.pick([0, 1, 1, 2])
  return Array.from({ length: count }, (_, index): FeedPlan => {
    const fromMs = random.between(0, activeMs)
    const toMs = random.chance(0.3) ? Number.POSITIVE_INFINITY : fromMs + random.between(100, 40_000)
    const offer = {
      lastsMs: random.between(2_000, 60_000),
      onDeadline: random.pick(['lapsed', 'lapsed', 'dead_lettered'] as const),
    }
    const names = { names: 'any', widens: false, always: true } as const
    const binding = createBinding(random, FEEDS + index, true)
    return {
      binding: { ...binding, ...names, offer, kind: 'reading', counts: 'received' },
      readEveryMs: random.between(50, 1_500),
      stall: random.chance(0.5) ? { fromMs, toMs } : null,
    }
  })
}

const lastingWorker = (startMs: number): WorkerPlan => ({ startMs, end: null, rebalancesMs: [], aheadMs: 0 })

/** Creates workers. One lives to the end; the others come and go, and may end in any way. */
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
  // Sometimes the lasting worker starts after all others have gone.
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

/** Sets the time of the logout that the IdP states by its own clock, or leaves it out. */
function byClockOf(clock: Random, post: Post, aheadMs: number): Post {
  const { acceptedAt } = post.event
  const occurredAt = clock.chance(0.5) ? new Date(acceptedAt.getTime() + aheadMs) : null
  return { ...post, event: { ...post.event, occurredAt } }
}

/**
 * In some runs the IdP posts a token for each client to the relay, for some logouts of a session: instead of its own post, or beside it.
 * In some of these runs the issuer widens.
 */
function createRelayed(
  random: Random,
  relyingParties: readonly RelyingPartyPlan[],
  posts: readonly Post[],
): readonly Post[] {
  if (!random.chance(0.4)) return posts
  const widens = random.chance(0.4)
  const clients = [...new Set(relyingParties.map(({ binding }) => binding.clientId))]
  return posts.flatMap((post): readonly Post[] => {
    if (post.event.scope !== 'session' || random.chance(0.4)) return [post]
    const relayed = clients
      .filter(() => random.chance(0.6))
      .map((clientId) => relayedPost(random, post, { clientId, widens }))
    return random.chance(0.3) ? [...relayed, post] : relayed
  })
}

function relayedPost(
  random: Random,
  { atMs, event, againMs }: Post,
  { clientId, widens }: { readonly clientId: ClientId; readonly widens: boolean },
): Post {
  const laterMs = atMs + random.between(0, 500)
  const at = new Date(EPOCH_MS + laterMs)
  const bytes = Uint8Array.from({ length: 10 }, () => random.between(0, 255))
  const given = identity(event.iss, uuidV7(at, bytes) as GivenEventId)
  const claims = {
    ...{ iss: event.iss, aud: clientId, jti: `token ${given.givenId}`, txn: given.givenId },
    ...{
      iat: Math.floor(at.getTime() / 1_000),
      sid: event.sid,
      ...(event.sub !== null && { sub: event.sub }),
    },
  }
  const token = `header.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.signature`
  const about = {
    ...{ initiator: null, includeInitiator: false, lane: 'interactive', acceptedAt: at },
    clients: widens ? null : [clientId],
    relayed: { clientId, token, verified: true },
  } as const
  return { atMs: laterMs, event: { ...event, ...given, ...about } as LogoutEvent, againMs }
}

const identity = (iss: Issuer, givenId: GivenEventId) => ({
  id: eventIdOf(iss, givenId, digest),
  givenId,
  iss,
})

/** In some runs a second issuer posts its own logouts under ids of the first issuer, before or after the first. */
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
        ...{ binding, phases: [forever(behaviour)], registeredMs: 0, removedMs: null, againMs: null },
        steady: true,
      },
    ],
    posts,
  }
}

/**
 * Creates sessions of the users that log out. Some start before the run, some during it, and some have no end. Every client has a
 * session once.
 */
function createSessions(
  random: Random,
  {
    relyingParties,
    pairwise,
    activeMs,
    clock,
    aheadMs,
  }: {
    relyingParties: readonly RelyingPartyPlan[]
    pairwise: ReadonlySet<ClientId>
    activeMs: number
    clock: Random
    aheadMs: number
  },
): readonly SessionStart[] {
  const starts = Array.from({ length: random.between(1, random.pick([5, 30])) }, (): SessionStart => {
    const { binding } = random.pick(relyingParties)
    const person = random.between(1, 8)
    const startMs = random.between(-5_000, activeMs)
    const lastsMs = random.chance(0.05) ? random.between(500, 20_000) : 86_400_000
    const device = random.pick([null, 'phone', 'laptop'])
    const atMs = Math.max(0, startMs) + (random.chance(0.3) ? random.between(1, 6_000) : 1)
    // The IdP posts the session at its start, or just before the index has it.
    const acceptedMs = clock.chance(0.7) ? startMs : atMs
    const startedStated = clock.chance(0.7)
    const endless = clock.chance(0.2)
    return {
      session: {
        iss: ISS,
        sub: subjectAt(pairwise, `person-${person}` as Subject, binding.clientId),
        sid: `session-${person}-${random.between(1, 4)}` as Sid,
        clientId: binding.clientId,
        device,
        startedAt: new Date(EPOCH_MS + (startedStated ? startMs + aheadMs : acceptedMs)),
        startedStated,
        acceptedAt: new Date(EPOCH_MS + acceptedMs),
        expiresAt: endless ? null : new Date(EPOCH_MS + startMs + lastsMs),
      },
      atMs,
    }
  })
  const keyOf = ({ session: { sub, sid, clientId } }: SessionStart) => `${sub} ${sid} ${clientId}`
  return [...new Map(starts.map((start) => [keyOf(start), start])).values()]
}
