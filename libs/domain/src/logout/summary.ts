import { type ChannelDelivery, type Step, type Strategy, weakestRequired } from '../delivery/channels.ts'
import { hasLapsed } from '../delivery/delivery.ts'
import { type Level, weaker } from '../delivery/level.ts'
import type { DeliveryRecord } from './records.ts'
import type { Unnotified, UnnotifiedClient, UnnotifiedClients } from './unnotified.ts'

// The summary of a logout for the person who logs out: the progress, and the applications left to sign out of. It avoids terms
// that the person does not know.

/** The parts of a delivery that the summary depends on. */
export type DeliveryProgress = Pick<
  DeliveryRecord,
  'state' | 'level' | 'dueAt' | 'attemptCount' | 'sessionEndsAt'
>

/** A delivery of the event, with its client. */
export interface SummarizedDelivery extends DeliveryProgress, ChannelDelivery {
  readonly clientId: string
  readonly clientName: string | null
  readonly step: Step
  /** The newest delivery that covers a superseded one; null if it is unknown. */
  readonly coveredBy: DeliveryProgress | null
}

/**
 * The progress of one application.
 * - `ending`: the delivery continues, or the application confirmed that it will sign out.
 * - `not_signed_out`: the delivery is a dead letter, the channel cannot confirm, or no delivery is owed to the application.
 */
export type ApplicationState = 'signed_out' | 'ending' | 'not_signed_out'

/** One relying party with all its channels, endpoints and sessions. Its weakest required channel decides. */
export interface ApplicationSummary {
  readonly clientId: string
  /** The registered name, or else the client_id. */
  readonly name: string
  readonly state: ApplicationState
  /** The weakest acknowledgement that counts; null while one is missing, or if none was needed. */
  readonly level: Level | null
  /**
   * A round number of seconds within which the next attempt starts; if `byItself`, within which the session ends. Null if the
   * application is signed out, or if neither time is known.
   */
  readonly withinS: number | null
  /** Whether the session ends by itself: before the next attempt, or without one. */
  readonly byItself: boolean
  /** Why no delivery is owed to the application; null if one is owed, or is about to be. */
  readonly notNotified: Exclude<Unnotified, 'not_yet'> | null
  /** One sentence. */
  readonly text: string
}

export interface EventSummary {
  /** `complete`: signed out of all. `in_progress`: some sign-out continues. `incomplete`: the person has to act on the rest. */
  readonly status: 'complete' | 'in_progress' | 'incomplete'
  readonly signedOut: number
  readonly total: number
  readonly text: string
  readonly applications: readonly ApplicationSummary[]
  /** The progress of each step of the issuer's strategy; null without one. */
  readonly steps: Readonly<Record<Step, StepProgress>> | null
  /** The application that started the logout and was skipped. It is not among `applications`. */
  readonly initiator: { readonly clientId: string; readonly name: string } | null
}

/** The relying parties of one step, each counted once, by its weakest required channel of the step. */
export interface StepProgress {
  /** Those that acknowledged at any level but `unconfirmable`, or whose session is over. */
  readonly done: number
  readonly total: number
}

/**
 * The next step for an application.
 * - `over`: none is left.
 * - `partial`, `received`, `begun`, `unconfirmable`: the application acknowledged at that level.
 * - `now`: the first attempt runs or is due.
 * - `offered`: the application fetches its logouts, and has not fetched this one yet.
 * - `retry`: the next attempt starts within a known time.
 * - `unavailable`: the next attempt starts at an unknown time.
 * - `by_itself`: the session ends before the next attempt.
 * - `failed`, `failed_by_itself`: the delivery is a dead letter; in the second case the session ends by itself.
 * - `unreachable`: no delivery is owed, and the application may hold a session.
 * - `not_registered`: the event names an application that is not registered, and no session of it is known.
 */
type Outlook =
  | 'over'
  | Exclude<Level, 'done'>
  | 'now'
  | 'offered'
  | 'retry'
  | 'unavailable'
  | 'by_itself'
  | 'failed'
  | 'failed_by_itself'
  | 'unreachable'
  | 'not_registered'

interface Prospect {
  readonly outlook: Outlook
  /** The level of the acknowledgement; null without one. */
  readonly level: Level | null
  /** Milliseconds until the next attempt or the session's end; 0 if the outlook has no time, or it is unknown. */
  readonly inMs: number
}

/** An application with its prospect. `name` is for sentences, `shown` for the list. */
interface Application {
  readonly clientId: string
  readonly name: string | null
  readonly shown: string
  readonly prospect: Prospect
  readonly notNotified: ApplicationSummary['notNotified']
}

const SECOND_MS = 1_000
const MINUTE_S = 60
const HOUR_S = 3_600
const DAY_S = 86_400
/** Round times in seconds. Longer times are rounded to whole days. */
const ROUND_S = [1, 2, 5, 10, 15, 20, 30, 45].map((minutes) => minutes * MINUTE_S)
const ROUND_LONG_S = [1, 2, 3, 4, 6, 8, 12, 18, 24].map((hours) => hours * HOUR_S)
/** The usual delay between the due time and the attempt. */
const SLACK_MS = 5_000
/** A delivery overdue for longer waits for an unavailable endpoint or behind a backlog, so its next attempt has no known time. */
const OVERDUE_MS = 60_000

/** The facts of a logout beside its deliveries. */
export interface SummaryFacts {
  readonly now: Date
  /** False if the issuer is not registered, so that no relying party is known. */
  readonly knownIssuer: boolean
  /** Null if the issuer has none. */
  readonly strategy: Strategy | null
  readonly unnotified: UnnotifiedClients
}

/**
 * Summarises an event for the person who logged out. Times come from the retry schedule: they say when the next attempt starts,
 * not that it succeeds.
 *
 * @param deliveries the deliveries of one event, in the order in which the text names the applications.
 */
export function summarize(
  deliveries: readonly SummarizedDelivery[],
  { now, knownIssuer, strategy, unnotified }: SummaryFacts,
): EventSummary {
  const applications = [...applicationsOf(deliveries, now), ...unnotifiedOf(unnotified.clients, now)]
  const total = applications.length
  const over = applications.filter(({ prospect }) => stateOf(prospect) === 'signed_out')
  const states = new Set(applications.map(({ prospect }) => stateOf(prospect)))
  const unknown = !unnotified.complete || (deliveries.length === 0 && !knownIssuer)
  const incomplete = states.has('not_signed_out') || unknown
  const status = states.has('ending') ? 'in_progress' : incomplete ? 'incomplete' : 'complete'
  const { initiator } = unnotified
  const steps = strategy === null ? null : stepsOf(deliveries, now)
  return {
    status,
    signedOut: over.length,
    total,
    text: [
      ...(steps === null ? [] : revokedText(steps.revoke)),
      ...(total === 0
        ? nothingText({ knownIssuer, initiator })
        : [
            ...progressText(applications, { signedOut: over.length, ended: status === 'incomplete' }),
            ...initiatorText(initiator),
          ]),
      ...(unnotified.complete ? [] : ['There may be more applications to sign out of.']),
    ].join(' '),
    applications: applications.map(toSummary),
    steps,
    initiator:
      initiator === null
        ? null
        : { clientId: initiator.clientId, name: initiator.clientName ?? initiator.clientId },
  }
}

const DONE: readonly Outlook[] = ['over', 'partial', 'received', 'begun']

function stepsOf(deliveries: readonly SummarizedDelivery[], now: Date): Readonly<Record<Step, StepProgress>> {
  const progressOf = (step: Step): StepProgress => {
    const parties = applicationsOf(
      deliveries.filter((delivery) => delivery.step === step),
      now,
    )
    const done = parties.filter(({ prospect }) => DONE.includes(prospect.outlook))
    return { done: done.length, total: parties.length }
  }
  return { revoke: progressOf('revoke'), notify: progressOf('notify') }
}

function revokedText({ done, total }: StepProgress): readonly string[] {
  if (total === 0) return []
  if (done === total) return ['Your access was revoked.']
  if (done === 0) return ['Your access is being revoked.']
  return [`Your access was revoked at ${done} of ${total} places.`]
}

/** The applications with deliveries. */
function applicationsOf(deliveries: readonly SummarizedDelivery[], now: Date): readonly Application[] {
  return [...Map.groupBy(deliveries, ({ clientId }) => clientId)].map(([clientId, own]) => {
    const prospect = weakestRequired(own, {
      statusOf: (delivery) => prospectOf(delivery, now),
      worse,
      failed: hasFailed,
    })
    const { clientName } = own.find((delivery) => delivery.clientName !== null) ?? { clientName: null }
    return { ...namesFor({ clientId, clientName }), prospect, notNotified: null }
  })
}

/** The applications without deliveries. */
function unnotifiedOf(clients: readonly UnnotifiedClient[], now: Date): readonly Application[] {
  return clients.map((client) => {
    const { why } = client
    return {
      ...namesFor(client),
      prospect: { ...unnotifiedProspect(client, now), level: null },
      notNotified: why === 'not_yet' ? null : why,
    }
  })
}

function unnotifiedProspect(
  { why, holdsSession, sessionsEndAt }: UnnotifiedClient,
  now: Date,
): Omit<Prospect, 'level'> {
  if (why === 'not_yet') return { outlook: 'now', inMs: SLACK_MS }
  if (why === 'not_registered' && !holdsSession) return { outlook: 'not_registered', inMs: 0 }
  const inMs = sessionsEndAt === null ? 0 : Math.max(1, sessionsEndAt.getTime() - now.getTime())
  return { outlook: 'unreachable', inMs }
}

function toSummary({ clientId, shown, name, prospect, notNotified }: Application): ApplicationSummary {
  return {
    clientId,
    name: shown,
    state: stateOf(prospect),
    level: prospect.level,
    withinS: withinS(prospect),
    byItself: endsByItself(prospect),
    notNotified,
    text: name === null ? capitalized(sentence(prospect, 'the application', 1)) : sentence(prospect, name, 1),
  }
}

/** The sentences about the applications: the counts, then one sentence for each outlook. */
function progressText(
  applications: readonly Application[],
  { signedOut, ended }: { signedOut: number; ended: boolean },
): readonly string[] {
  const total = applications.length
  const [only] = applications
  if (total === 1 && only?.prospect.outlook === 'over')
    return [sentence(only.prospect, namesOf(applications), 1)]
  const rest = OUTLOOKS.flatMap((outlook) => {
    const alike = applications.filter(({ prospect }) => prospect.outlook === outlook)
    if (alike.length === 0) return []
    const inMs = Math.max(...alike.map(({ prospect }) => prospect.inMs))
    return [sentence({ outlook, inMs }, namesOf(alike), alike.length)]
  })
  return [...countText({ signedOut, total, ended }), ...rest]
}

/** The sentences about a logout without applications. */
function nothingText({
  knownIssuer,
  initiator,
}: Pick<SummaryFacts, 'knownIssuer'> & Pick<UnnotifiedClients, 'initiator'>): readonly string[] {
  const other = initiator === null ? '' : 'other '
  return [
    ...initiatorText(initiator),
    knownIssuer
      ? `There was no ${other}application to sign out of.`
      : `It is not known which ${other}applications to sign out of.`,
  ]
}

function initiatorText(initiator: UnnotifiedClients['initiator']): readonly string[] {
  if (initiator === null) return []
  const { name } = namesFor(initiator)
  return [
    name === null
      ? 'The application that started the logout was not notified.'
      : `${name} started the logout and was not notified.`,
  ]
}

/** The outlooks in the order of the text, from the best to the worst. */
const OUTLOOKS: readonly Outlook[] = [
  ...(['partial', 'received', 'begun', 'now', 'offered', 'by_itself', 'retry', 'unavailable'] as const),
  ...(['unconfirmable', 'failed_by_itself', 'failed', 'unreachable', 'not_registered'] as const),
]

/** The prospect that delays an application's sign-out the most. */
function worse(one: Prospect, other: Prospect): Prospect {
  const rank = ({ outlook }: Prospect) => OUTLOOKS.indexOf(outlook)
  const difference = rank(one) - rank(other) || one.inMs - other.inMs
  return { ...(difference >= 0 ? one : other), level: levelOfBoth(one, other) }
}

/**
 * The weaker level; null while one of them is not acknowledged. A session that ended by itself has no level and does not count.
 */
function levelOfBoth(one: Prospect, other: Prospect): Level | null {
  if ([one, other].some(({ level, outlook }) => level === null && outlook !== 'over')) return null
  if (one.level === null || other.level === null) return one.level ?? other.level
  return weaker(one.level, other.level)
}

function prospectOf(delivery: SummarizedDelivery, now: Date): Prospect {
  const { sessionEndsAt } = delivery
  const effective = delivery.state === 'superseded' ? delivery.coveredBy : delivery
  if (effective?.state === 'lapsed' || hasLapsed(delivery, now))
    return { outlook: 'over', level: null, inMs: 0 }
  if (effective?.state === 'acknowledged') {
    const { level } = effective
    return { outlook: level === null || level === 'done' ? 'over' : level, level, inMs: 0 }
  }
  if (effective?.state === 'offered') return { outlook: 'offered', level: null, inMs: 0 }
  const endsInMs = sessionEndsAt === null ? Number.POSITIVE_INFINITY : sessionEndsAt.getTime() - now.getTime()
  const endsByItself = Number.isFinite(endsInMs)
  if (effective?.state === 'dead_lettered') {
    return endsByItself
      ? { outlook: 'failed_by_itself', level: null, inMs: endsInMs }
      : { outlook: 'failed', level: null, inMs: 0 }
  }
  const triedInMs = effective === null ? null : triedIn(effective, now)
  if (endsByItself && (triedInMs === null || endsInMs <= triedInMs)) {
    return { outlook: 'by_itself', level: null, inMs: endsInMs }
  }
  if (effective === null || triedInMs === null) return { outlook: 'unavailable', level: null, inMs: 0 }
  const fresh = effective.dueAt === null || effective.attemptCount === 0
  return { outlook: fresh ? 'now' : 'retry', level: null, inMs: triedInMs }
}

/** Milliseconds within which the next attempt starts; null if unknown. */
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
  const isLeft = outlook === 'unconfirmable' || outlook === 'unreachable' || outlook === 'not_registered'
  return isLeft || hasFailed(prospect) ? 'not_signed_out' : 'ending'
}

/** Whether the session ends by itself, at a known time. */
function endsByItself({ outlook, inMs }: Prospect): boolean {
  if (outlook === 'unreachable') return inMs > 0
  return outlook === 'by_itself' || outlook === 'failed_by_itself'
}

function withinS(prospect: Prospect): number | null {
  const { outlook, inMs } = prospect
  return outlook === 'now' || outlook === 'retry' || endsByItself(prospect) ? roundUp(inMs) : null
}

/** The next longer round time, in seconds. */
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

/** The first sentence, with the counts. A single application needs none: its own sentence says everything. */
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

/** @param count the number of applications in `names`. */
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
    case 'offered':
      return `${names} ${one ? 'has' : 'have'} not fetched the request to sign you out yet.`
    case 'by_itself':
      return `${names} ${one ? 'ends' : 'end'} ${byItself} ${within}.`
    case 'retry':
      return `${have} ${within}.`
    case 'unavailable':
      return `${have} as soon as possible.`
    case 'failed_by_itself':
      return `Signing out of ${names} did not work: ${one ? 'its session ends' : 'their sessions end'} ${byItself} ${within}.`
    case 'failed':
      return `Signing out of ${names} did not work: please sign out there, or close ${one ? 'it' : 'them'}.`
    case 'unreachable':
      return `${names} could not be notified: please sign out there, or close ${one ? 'it' : 'them'}.`
    case 'not_registered':
      return `${names} ${one ? 'is' : 'are'} not registered, so ${one ? 'it was' : 'they were'} not notified: if you are signed in there, please sign out.`
  }
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

const NAMED_MAX = 3
const NAMED_BESIDE_MORE = 2
const NAME_LENGTH_MAX = 60

/** The applications by name: "Wiki", "Wiki and Mail", "Wiki, Mail and Chat", "Wiki, Mail and 3 more". */
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

/** The names of a client. */
function namesFor({
  clientId,
  clientName,
}: Pick<UnnotifiedClient, 'clientId' | 'clientName'>): Pick<Application, 'clientId' | 'name' | 'shown'> {
  const name = plainName(clientName ?? '') ?? plainName(clientId)
  return { clientId, name, shown: clientName ?? clientId }
}

/** The name for use in a sentence; null if it is an address or an id, which means nothing to a person. */
function plainName(name: string): string | null {
  const plain = name.replace(/[\p{C}\p{Zl}\p{Zp}\s]+/gu, ' ').trim()
  if (plain === '' || ADDRESS.test(plain) || UUID.test(plain)) return null
  const characters = [...plain]
  return characters.length <= NAME_LENGTH_MAX
    ? plain
    : `${characters.slice(0, NAME_LENGTH_MAX - 1).join('')}…`
}
