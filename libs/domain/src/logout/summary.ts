import { type ChannelDelivery, weakestRequired } from '../delivery/channels.ts'
import { hasLapsed } from '../delivery/delivery.ts'
import { type Level, weaker } from '../delivery/level.ts'
import type { DeliveryRecord } from './records.ts'

// What a person is shown who logs out: how far it is, and what is left to do. In words of the person, not of ours.

/** How a delivery stands, as far as a person is concerned. */
export type DeliveryProgress = Pick<
  DeliveryRecord,
  'state' | 'level' | 'dueAt' | 'attemptCount' | 'sessionEndsAt'
>

/** A delivery of the event, and whose it is. */
export interface SummarizedDelivery extends DeliveryProgress, ChannelDelivery {
  readonly clientId: string
  readonly clientName: string | null
  /** Of a superseded one: how the newest delivery stands that says all that it would have said; null where that is not known. */
  readonly coveredBy: DeliveryProgress | null
}

/**
 * `ending`: it goes on by itself, or the application has confirmed that it is to sign out. `not_signed_out`: it was given up on, or
 * there is no way to know.
 */
export type ApplicationState = 'signed_out' | 'ending' | 'not_signed_out'

/** One relying party, whatever the number of its channels, endpoints and sessions: its weakest required channel decides. */
export interface ApplicationSummary {
  readonly clientId: string
  /** What it calls itself, else its client_id. */
  readonly name: string
  readonly state: ApplicationState
  /** The weakest acknowledgement that counts; null until everything that counts is acknowledged, and where nothing had to be. */
  readonly level: Level | null
  /**
   * Seconds, a round number: within these it is tried next, or, where `byItself`, its session ends. Null where it is signed
   * out, and where neither can be said.
   */
  readonly withinS: number | null
  /** Whether its session ends by itself before it is tried again, or though it was given up on. */
  readonly byItself: boolean
  /** One sentence. */
  readonly text: string
}

export interface EventSummary {
  /** `complete`: signed out of all. `in_progress`: something goes on by itself. `incomplete`: what is left is left to the person. */
  readonly status: 'complete' | 'in_progress' | 'incomplete'
  readonly signedOut: number
  readonly total: number
  readonly text: string
  readonly applications: readonly ApplicationSummary[]
}

/**
 * What is left to happen to an application. `partial`, `received`, `begun` and `unconfirmable`: it has acknowledged at that level.
 * `now`: at this moment, `retry`: at a time that is known or not, `down`: some time.
 */
type Outlook =
  | 'over'
  | Exclude<Level, 'done'>
  | 'now'
  | 'retry'
  | 'down'
  | 'by_itself'
  | 'failed'
  | 'failed_by_itself'

interface Prospect {
  readonly outlook: Outlook
  /** Of the acknowledgement that it comes from. */
  readonly level: Level | null
  /** Milliseconds from now to the end of it; 0 where there is none. */
  readonly inMs: number
}

const SECOND_MS = 1_000
const MINUTE_S = 60
const HOUR_S = 3_600
const DAY_S = 86_400
/** Round times, in seconds; beyond them whole days. */
const ROUND_S = [1, 2, 5, 10, 15, 20, 30, 45].map((minutes) => minutes * MINUTE_S)
const ROUND_LONG_S = [1, 2, 3, 4, 6, 8, 12, 18, 24].map((hours) => hours * HOUR_S)
/** From being due to being tried, where nothing is in the way. */
const SLACK_MS = 5_000
/** What has been due for longer is not tried because its endpoint is down, or much else is due: nobody can say when it will be. */
const OVERDUE_MS = 60_000

/**
 * Sums up an event for the person who logged out. What is said to happen is what the retry schedule provides for: it is
 * tried within that time, which is not to say that it succeeds.
 *
 * @param deliveries of one event, in the order in which applications are to be named.
 * @param knownIssuer false: nobody is registered for it, so that nobody could be told.
 */
export function summarize(
  deliveries: readonly SummarizedDelivery[],
  { now, knownIssuer }: { now: Date; knownIssuer: boolean },
): EventSummary {
  const applications = [...Map.groupBy(deliveries, ({ clientId }) => clientId)].map(([clientId, own]) => {
    const prospect = weakestRequired(own, {
      standingOf: (delivery) => prospectOf(delivery, now),
      worse,
      failed: hasFailed,
    })
    const { clientName } = own.find((delivery) => delivery.clientName !== null) ?? { clientName: null }
    const name = plainName(clientName ?? '') ?? plainName(clientId)
    return { clientId, name, shown: clientName ?? clientId, prospect }
  })
  const total = applications.length
  const over = applications.filter(({ prospect }) => stateOf(prospect) === 'signed_out')
  const states = new Set(applications.map(({ prospect }) => stateOf(prospect)))
  const incomplete = states.has('not_signed_out') || (total === 0 && !knownIssuer)
  const status = states.has('ending') ? 'in_progress' : incomplete ? 'incomplete' : 'complete'
  const rest = OUTLOOKS.flatMap((outlook) => {
    const alike = applications.filter(({ prospect }) => prospect.outlook === outlook)
    if (alike.length === 0) return []
    const inMs = Math.max(...alike.map(({ prospect }) => prospect.inMs))
    return [sentence({ outlook, inMs }, namesOf(alike), alike.length)]
  })
  const counted = countText({ signedOut: over.length, total, ended: status === 'incomplete' })
  const nothing = knownIssuer
    ? 'There was no application to sign out of.'
    : 'It is not known which applications to sign out of.'
  const [only] = applications
  const alone =
    total === 1 && only?.prospect.outlook === 'over' ? sentence(only.prospect, namesOf(over), 1) : null
  return {
    status,
    signedOut: over.length,
    total,
    text: total === 0 ? nothing : (alone ?? [...counted, ...rest].join(' ')),
    applications: applications.map(({ clientId, shown, name, prospect }) => ({
      clientId,
      name: shown,
      state: stateOf(prospect),
      level: prospect.level,
      withinS: withinS(prospect),
      byItself: prospect.outlook === 'by_itself' || prospect.outlook === 'failed_by_itself',
      text:
        name === null ? capitalized(sentence(prospect, 'the application', 1)) : sentence(prospect, name, 1),
    })),
  }
}

/** What is told of, in this order; from the best to the worst. */
const OUTLOOKS: readonly Outlook[] = [
  ...(['partial', 'received', 'begun', 'now', 'by_itself', 'retry', 'down'] as const),
  ...(['unconfirmable', 'failed_by_itself', 'failed'] as const),
]

/** Of several deliveries to one application: that which keeps it the longest from being signed out. */
function worse(one: Prospect, other: Prospect): Prospect {
  const rank = ({ outlook }: Prospect) => OUTLOOKS.indexOf(outlook)
  const difference = rank(one) - rank(other) || one.inMs - other.inMs
  return { ...(difference >= 0 ? one : other), level: levelOfBoth(one, other) }
}

/** Null while one of them is not acknowledged. What was over anyway has no level, and does not matter. */
function levelOfBoth(one: Prospect, other: Prospect): Level | null {
  if ([one, other].some(({ level, outlook }) => level === null && outlook !== 'over')) return null
  if (one.level === null || other.level === null) return one.level ?? other.level
  return weaker(one.level, other.level)
}

function prospectOf(delivery: SummarizedDelivery, now: Date): Prospect {
  const { sessionEndsAt } = delivery
  const standing = delivery.state === 'superseded' ? delivery.coveredBy : delivery
  if (standing?.state === 'lapsed' || hasLapsed(delivery, now))
    return { outlook: 'over', level: null, inMs: 0 }
  if (standing?.state === 'acknowledged') {
    const { level } = standing
    return { outlook: level === null || level === 'done' ? 'over' : level, level, inMs: 0 }
  }
  const endsInMs = sessionEndsAt === null ? Number.POSITIVE_INFINITY : sessionEndsAt.getTime() - now.getTime()
  const endsByItself = Number.isFinite(endsInMs)
  if (standing?.state === 'dead_lettered') {
    return endsByItself
      ? { outlook: 'failed_by_itself', level: null, inMs: endsInMs }
      : { outlook: 'failed', level: null, inMs: 0 }
  }
  const triedInMs = standing === null ? null : triedIn(standing, now)
  if (endsByItself && (triedInMs === null || endsInMs <= triedInMs)) {
    return { outlook: 'by_itself', level: null, inMs: endsInMs }
  }
  if (standing === null || triedInMs === null) return { outlook: 'down', level: null, inMs: 0 }
  const fresh = standing.dueAt === null || standing.attemptCount === 0
  return { outlook: fresh ? 'now' : 'retry', level: null, inMs: triedInMs }
}

/** Milliseconds within which it is tried; null where nobody can say. */
function triedIn({ dueAt }: DeliveryProgress, now: Date): number | null {
  const dueInMs = dueAt === null ? 0 : dueAt.getTime() - now.getTime()
  return dueInMs < -OVERDUE_MS ? null : Math.max(0, dueInMs) + SLACK_MS
}

function hasFailed({ outlook }: Prospect): boolean {
  return outlook === 'failed' || outlook === 'failed_by_itself'
}

function stateOf(prospect: Prospect): ApplicationState {
  const { outlook } = prospect
  if (outlook === 'over' || outlook === 'partial') return 'signed_out'
  return outlook === 'unconfirmable' || hasFailed(prospect) ? 'not_signed_out' : 'ending'
}

/** Outlooks of which a time is known. */
const TIMED: ReadonlySet<Outlook> = new Set(['now', 'retry', 'by_itself', 'failed_by_itself'])

function withinS({ outlook, inMs }: Prospect): number | null {
  return TIMED.has(outlook) ? roundUp(inMs) : null
}

/** In seconds: the next round time. */
function roundUp(ms: number): number {
  const seconds = ms / SECOND_MS
  const round = [...ROUND_S, ...ROUND_LONG_S].find((step) => step >= seconds)
  return round ?? Math.ceil(seconds / DAY_S) * DAY_S
}

function inWords(seconds: number): string {
  if (seconds < HOUR_S) return counted(seconds / MINUTE_S, 'a minute', 'minutes')
  if (seconds < DAY_S) return counted(seconds / HOUR_S, 'an hour', 'hours')
  return counted(seconds / DAY_S, 'a day', 'days')
}

function counted(count: number, one: string, many: string): string {
  return count === 1 ? one : `${count} ${many}`
}

/** What is said first: nothing where there is but one, of which the next sentence says it all. */
function countText({
  signedOut,
  total,
  ended,
}: {
  signedOut: number
  total: number
  ended: boolean
}): readonly string[] {
  if (total === 1) return []
  if (signedOut === total) return [`Signed out of all ${total} applications.`]
  if (signedOut === 0) return [`Signed out of none of ${total} applications${ended ? '' : ' yet'}.`]
  return [`Signed out of ${signedOut} of ${total} applications.`]
}

/** @param count how many `names` stands for. */
function sentence({ outlook, inMs }: Omit<Prospect, 'level'>, names: string, count: number): string {
  const within = `within ${inWords(roundUp(inMs))}`
  const one = count === 1
  const have = `${names} ${one ? 'has' : 'have'} not confirmed yet: ${one ? 'it is' : 'they are'} tried again`
  const byItself = one ? 'by itself' : 'by themselves'
  switch (outlook) {
    case 'over':
      return `Signed out of ${names}.`
    case 'partial':
      return `Signed out of ${names}, but not of everything that ${one ? 'it has' : 'they have'} signed you in to.`
    case 'received':
      return `${names} ${one ? 'has' : 'have'} received the request to sign you out.`
    case 'begun':
      return `${names} ${one ? 'has' : 'have'} begun to sign you out.`
    case 'unconfirmable':
      return `You may still be signed in at ${names}: please sign out there, or close ${one ? 'it' : 'them'}.`
    case 'now':
      return `Signing out of ${names} is under way.`
    case 'by_itself':
      return `${names} ${one ? 'ends' : 'end'} ${byItself} ${within}.`
    case 'retry':
      return `${have} ${within}.`
    case 'down':
      return `${have} as soon as possible.`
    case 'failed_by_itself':
      return `Signing out of ${names} did not work: ${one ? 'its session ends' : 'their sessions end'} ${byItself} ${within}.`
    case 'failed':
      return `Signing out of ${names} did not work: please sign out there, or close ${one ? 'it' : 'them'}.`
  }
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

const NAMED_MAX = 3
const NAMED_BESIDE_MORE = 2
const NAME_LENGTH_MAX = 60

/** "Wiki", "Wiki and Mail", "Wiki, Mail and Chat", "Wiki, Mail and 3 more". */
function namesOf(applications: readonly { readonly name: string | null }[]): string {
  const names = applications.flatMap(({ name }) => (name === null ? [] : [name]))
  const { length } = applications
  if (names.length === 0) return counted(length, '1 application', 'applications')
  const whole = names.length === length && length <= NAMED_MAX
  const shown = whole ? names : names.slice(0, Math.min(NAMED_BESIDE_MORE, length - 1))
  const parts = shown.length === length ? shown : [...shown, `${length - shown.length} more`]
  const last = parts.at(-1) ?? ''
  return parts.length === 1 ? last : `${parts.slice(0, -1).join(', ')} and ${last}`
}

const ADDRESS = /:\/\/|^\s*[a-z][a-z0-9+.-]*:\S/i
const UUID = /[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}/i

/** What it may be called in a sentence; null where that would be an address or an id that says nothing to a person. */
function plainName(name: string): string | null {
  const plain = name.replace(/[\p{C}\p{Zl}\p{Zp}\s]+/gu, ' ').trim()
  if (plain === '' || ADDRESS.test(plain) || UUID.test(plain)) return null
  const characters = [...plain]
  return characters.length <= NAME_LENGTH_MAX
    ? plain
    : `${characters.slice(0, NAME_LENGTH_MAX - 1).join('')}…`
}
