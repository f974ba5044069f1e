import { EventLogView, type Scope } from '@curfew/contract'
import {
  type EventLogMonitor,
  EventLogUnavailableError,
  type LaneState,
  type TopicState,
  topicFaultText,
} from '@curfew/domain'
import { countAlive, type Database, readClock, readEventLogChoice } from '@curfew/ledger'
import type { HttpServer, RouteAccess } from '@curfew/runtime'

export interface EventLogDeps {
  readonly db: Database
  readonly monitor: EventLogMonitor
  now(): Date
}

type LaneView = EventLogView['lanes'][number]
type Finding = EventLogView['answer']
type TopicView = EventLogView['topics'][number]

/** `GET /v1/event-log`: the backlog of each lane, and the check of the topics. */
export function registerEventLog(server: HttpServer, { db, monitor, now }: EventLogDeps): void {
  server.get(
    '/v1/event-log',
    {
      config: { scope: 'admin', access: 'unbound', cost: 10 } satisfies RouteAccess<Scope>,
      schema: {
        operationId: 'getEventLog',
        tags: ['Event log'],
        summary:
          'Get the backlog of the event log, the processes that work it off, and the check of its topics.',
        response: { 200: EventLogView },
      },
    },
    async () => {
      const [{ answer, choice, lanes, topics }, { workers, bookkeepers }, offsetSeconds] = await Promise.all([
        look(monitor, db),
        countAlive(db),
        clockOffset(db, now),
      ])
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
        workers_alive: workers,
        bookkeepers_alive: bookkeepers,
        clock_offset_seconds: offsetSeconds,
        lanes,
        topics,
      }
    },
  )
}

/** The clock of this machine minus that of PostgreSQL, in seconds. It is wrong by half the round trip at most. */
async function clockOffset(db: Database, now: () => Date): Promise<number> {
  const sentMs = now().getTime()
  const ledgerMs = (await readClock(db)).getTime()
  return ((sentMs + now().getTime()) / 2 - ledgerMs) / 1_000
}

async function look(
  monitor: EventLogMonitor,
  db: Database,
): Promise<Pick<EventLogView, 'answer' | 'choice' | 'lanes' | 'topics'>> {
  try {
    const { name, brokersUnavailable, lanes, topics } = await monitor.look()
    const answer = answerOf(brokersUnavailable)
    const choice = await choiceOf(db, name)
    return { answer, choice, lanes: lanes.map(laneView), topics: topics.map(topicView) }
  } catch (error) {
    if (!(error instanceof EventLogUnavailableError)) throw error
    const { cause } = error
    const what = cause instanceof Error ? `${error.message}: ${cause.message}` : error.message
    const fix =
      'Check that the console can reach PostgreSQL, or Kafka at KAFKA_BROKERS. It needs the same KAFKA_ settings as the other services.'
    return { answer: { ok: false, what, fix }, choice: null, lanes: [], topics: [] }
  }
}

/** The finding for an event log that answers. @param gone the ids of unavailable brokers that have copies of the topics. */
function answerOf(gone: readonly number[]): Finding {
  if (gone.length === 0) return { ok: true, what: 'answers', fix: null }
  const brokers = `${gone.length === 1 ? 'broker' : 'brokers'} ${gone.join(', ')}`
  return {
    ok: true,
    what: `answers without ${brokers}`,
    fix: `Start ${brokers} of Kafka. Until then partitions have fewer copies, so the event log survives fewer failures.`,
  }
}

/** The finding about the choice of all services. @param name the event log of this console. */
async function choiceOf(db: Database, name: string): Promise<Finding> {
  // The console only reads the choice. If it could choose, wrong settings of the console would make the services refuse logouts.
  const { chosen, strays: noted } = await readEventLogChoice(db)
  if (chosen === null) return { ok: true, what: 'will be that of the first service that starts', fix: null }
  const isOther = name !== chosen && noted.every((stray) => stray.name !== name)
  const strays = isOther ? [...noted, { user: 'the console', name }] : noted
  if (strays.length === 0) return { ok: true, what: `is ${chosen} for every service`, fix: null }
  const differing = strays.map(({ user, name }) => `${user} uses ${name} and accepts no logouts`)
  return {
    ok: false,
    what: `is ${chosen}, but ${differing.join('; ')}`,
    fix: 'Give all services the same KAFKA_BROKERS and KAFKA_TOPIC_PREFIX. To change the event log on purpose: npx curfew event-log use',
  }
}

/** Longest normal waiting time of a record, in seconds. The bulk lane gives way to the others. */
const OLDEST_S_MAX = { interactive: 60, sessions: 60, bulk: 3_600 }

const WORKERS_FIX =
  'Check that delivery workers run and that their /readyz is ready, and look for event-log.consume-failed in their log.'

function laneView(state: LaneState): LaneView {
  const { lane } = state
  if (state.unknown !== null) {
    const [none, fix] = [
      null,
      'Correct the findings about its topic, check that all brokers answer, and try again.',
    ]
    const unknown = { waiting: none, oldest_s: none, unassigned_partitions: none, removed: none }
    return { lane, ...unknown, ok: false, what: `cannot be read: ${state.unknown}`, fix }
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
    const lost = `${removed} records were removed before a worker read them; ${what}`
    const fix =
      'Have the issuers post the events and sessions of that time again. Raise retention.ms or retention.bytes of the topic.'
    return { ...seen, ok: false, what: lost, fix }
  }
  if (unassigned !== null && unassigned.length > 0) {
    const idle = `${unassigned.length === 1 ? 'partition' : 'partitions'} ${unassigned.join(', ')} without a worker; ${what}`
    return {
      ...seen,
      ok: false,
      what: idle,
      fix: `${WORKERS_FIX} This is normal for a few seconds after a worker starts or stops.`,
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
  const [unit, size] = UNITS.find(([, unitS]) => seconds >= 2 * unitS) ?? ['s', 1]
  return `${Math.round(seconds / size)} ${unit}`
}
