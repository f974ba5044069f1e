import { EventLogView, type Scope } from '@curfew/contract'
import {
  type EventLogMonitor,
  EventLogUnavailableError,
  type LaneState,
  type TopicState,
  topicFaultText,
} from '@curfew/domain'
import { type Database, readEventLogChoice } from '@curfew/ledger'
import type { HttpServer, RouteAccess } from '@curfew/runtime'

export interface EventLogDeps {
  readonly db: Database
  readonly monitor: EventLogMonitor
  now(): Date
}

type LaneView = EventLogView['lanes'][number]
type Finding = EventLogView['answer']
type TopicView = EventLogView['topics'][number]

/** `GET /v1/event-log`: how far delivery is behind, and whether the topics are as they must be. */
export function registerEventLog(server: HttpServer, { db, monitor, now }: EventLogDeps): void {
  server.get(
    '/v1/event-log',
    {
      config: { scope: 'admin', access: 'unbound', cost: 10 } satisfies RouteAccess<Scope>,
      schema: {
        summary: 'How far delivery is behind, and whether the topics are as they must be.',
        response: { 200: EventLogView },
      },
    },
    async () => {
      const { answer, choice, lanes, topics } = await look(monitor, db)
      const findings = [
        answer,
        ...(choice === null ? [] : [choice]),
        ...lanes,
        ...topics.flatMap((topic) => topic.findings),
      ]
      return {
        ok: findings.every(({ ok }) => ok),
        store: monitor.store,
        checked_at: now().toISOString(),
        answer,
        choice,
        lanes,
        topics,
      }
    },
  )
}

async function look(
  monitor: EventLogMonitor,
  db: Database,
): Promise<Pick<EventLogView, 'answer' | 'choice' | 'lanes' | 'topics'>> {
  try {
    const { name, brokersGone, lanes, topics } = await monitor.look()
    const answer = answerOf(brokersGone)
    const choice = await choiceOf(db, name)
    return { answer, choice, lanes: lanes.map(laneView), topics: topics.map(topicView) }
  } catch (error) {
    if (!(error instanceof EventLogUnavailableError)) throw error
    const { cause } = error
    const what = cause instanceof Error ? `${error.message}: ${cause.message}` : error.message
    const fix =
      'See that PostgreSQL, or Kafka at KAFKA_BROKERS, answers the console too, which needs the same KAFKA_ settings as the others.'
    return { answer: { ok: false, what, fix }, choice: null, lanes: [], topics: [] }
  }
}

/** @param gone the ids of brokers that have copies of the topics and are unavailable. */
function answerOf(gone: readonly number[]): Finding {
  if (gone.length === 0) return { ok: true, what: 'answers', fix: null }
  const brokers = `${gone.length === 1 ? 'broker' : 'brokers'} ${gone.join(', ')}`
  return {
    ok: true,
    what: `answers without ${brokers}`,
    fix: `Start ${brokers} of Kafka. Until then partitions have fewer copies, and fewer brokers may fail.`,
  }
}

/** Whether all services use one event log. @param name the one that this console looks at. */
async function choiceOf(db: Database, name: string): Promise<Finding> {
  // A console that chose would have the services refuse logouts for the sake of its own settings.
  const { chosen, strays: noted } = await readEventLogChoice(db)
  if (chosen === null) return { ok: true, what: 'is that of the first service to start', fix: null }
  const isOther = name !== chosen && noted.every((stray) => stray.name !== name)
  const strays = isOther ? [...noted, { user: 'the console', name }] : noted
  if (strays.length === 0) return { ok: true, what: `is ${chosen} for every service`, fix: null }
  const each = strays.map(({ user, name }) => `${user} uses ${name} and accepts no logouts`)
  return {
    ok: false,
    what: `is ${chosen}, but ${each.join('; ')}`,
    fix: 'Give all services the same KAFKA_BROKERS and KAFKA_TOPIC_PREFIX. To change the event log on purpose: npx curfew event-log use',
  }
}

/** How long a record may wait before something is wrong, in seconds. The bulk lane gives way to the others. */
const OLDEST_S_MAX = { interactive: 60, sessions: 60, bulk: 3_600 }

const WORKERS_FIX =
  'See that delivery workers run, that their /readyz is ready, and what their log says of event-log.consume-failed.'

function laneView(state: LaneState): LaneView {
  const { lane } = state
  if (state.unknown !== null) {
    const [none, fix] = [null, 'Mend what is said of its topic, see that all brokers answer, and ask again.']
    const unknown = { waiting: none, oldest_s: none, unassigned_partitions: none, removed: none }
    return { lane, ...unknown, ok: false, what: `cannot be looked at: ${state.unknown}`, fix }
  }
  const { waiting, oldestSeconds, unassigned, removed } = state
  const seen = {
    lane,
    waiting,
    oldest_s: oldestSeconds,
    unassigned_partitions: unassigned === null ? null : [...unassigned],
    removed,
  }
  const what =
    waiting === 0 ? 'no record waits' : `${records(waiting)}, the oldest for ${duration(oldestSeconds)}`
  if (removed > 0) {
    const lost = `${removed} records were removed before a worker had read them; ${what}`
    const fix =
      'Have the issuers post again what they posted in that time. See retention.ms and retention.bytes of the topic.'
    return { ...seen, ok: false, what: lost, fix }
  }
  if (unassigned !== null && unassigned.length > 0) {
    const idle = `${unassigned.length === 1 ? 'partition' : 'partitions'} ${unassigned.join(', ')} without a worker; ${what}`
    return {
      ...seen,
      ok: false,
      what: idle,
      fix: `${WORKERS_FIX} While workers come or go this is so for seconds.`,
    }
  }
  const late = oldestSeconds > OLDEST_S_MAX[lane]
  return { ...seen, ok: !late, what, fix: late ? WORKERS_FIX : null }
}

function topicView({ topic, faults }: TopicState): TopicView {
  return {
    topic,
    findings: faults.map((fault) => ({
      setting: fault.setting,
      actual: fault.actual,
      wanted: fault.wanted,
      ok: !fault.severe,
      what: topicFaultText(fault),
      fix: fault.fix,
    })),
  }
}

function records(count: number): string {
  return count === 1 ? '1 record waits' : `${count} records wait`
}

const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
] as const

function duration(seconds: number): string {
  const [unit, size] = UNITS.find(([, each]) => seconds >= 2 * each) ?? ['s', 1]
  return `${Math.round(seconds / size)} ${unit}`
}
