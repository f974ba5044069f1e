import { ApiError, type Client } from '@curfew/client'
import type { EventLogView, Issuer, KeysCheck } from '@curfew/contract'
import { answered, CallFailed, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { allIssuers } from '../registry/issuer.ts'
import { command, type Given, text, UsageError } from '../terminal/arguments.ts'
import { plain, table } from '../terminal/table.ts'

/** The result of one check. If `ok` is false, something is wrong. If `ok` is true, a `fix` is an improvement that can wait. */
interface Finding {
  readonly check: string
  readonly ok: boolean
  readonly what: string
  readonly fix: string | null
}

/** The beginning of the answer of a service without such a route, such as ingest. */
const NO_ROUTE = 'There is no GET'

/** Greatest allowed difference of clocks, in milliseconds. Tokens are valid for two minutes. */
const CLOCK_OFF_MS_MAX = 30_000

interface CheckWords {
  readonly name: string
  readonly fix: string
  /** Default: `answers`. */
  readonly ok?: string
  /** Default: `works partly`. */
  readonly degraded?: string
  /** Default: `is unavailable`. */
  readonly unavailable?: string
}

const CHECKS: Readonly<Record<string, CheckWords>> = {
  ledger: {
    name: 'database',
    fix: 'Check that PostgreSQL at DATABASE_URL answers, is version 16 or newer, and is migrated (curfew migrate). The log of the service has the reason.',
  },
  workers: {
    name: 'delivery workers',
    ok: 'run',
    degraded: 'none is alive: accepted logouts wait, and relying parties are not notified',
    fix: 'Start a delivery worker. If one runs, find the reason in its log (worker.beat-failed).',
  },
  bookkeepers: {
    name: 'bookkeepers',
    ok: 'run',
    degraded: 'none is alive: receipts, SLA figures and notifications wait',
    fix: 'Start a bookkeeper. If one runs, find the reason in its log (job.failed with the job heartbeat).',
  },
  backlog: {
    name: 'backlog',
    ok: 'no accepted logout has waited for more than a minute',
    degraded: 'an accepted logout has waited for more than a minute',
    fix: 'See the lane interactive for the number of logouts that wait. Check that delivery workers run, and look for event-log.consume-failed in their log.',
  },
  'event-log': {
    name: 'event log',
    fix: 'Check that PostgreSQL, or Kafka at KAFKA_BROKERS, answers, and correct the findings about its topics.',
  },
  'event-log-choice': {
    name: 'event log of this service',
    fix: 'Find the reason in its log. If it uses another event log than the other services, give it the same KAFKA_BROKERS and KAFKA_TOPIC_PREFIX. If it may not read the choice of event log, grant its database role select, insert and update on event_logs.',
  },
  lanes: {
    name: 'lanes',
    fix: 'A worker cannot read the event log. Find the reason in its log (event-log.consume-failed). With Kafka, check the compression of the topics, the rights of the worker and the disks of the brokers.',
  },
  clock: {
    name: 'clock of the database',
    ok: 'agrees with the clock of the service to a minute',
    unavailable: 'differs from the clock of the service by more than a minute, or cannot be read',
    fix: 'Synchronize the clocks of the delivery workers and of PostgreSQL with NTP. Workers make no attempts while the clocks differ by more than a minute.',
  },
  spool: {
    name: 'spool of the relay',
    fix: 'Logout tokens wait on the disk of this service until the event log takes them. Correct the findings about the event log; the service then appends them by itself. If they still wait, find the reason in its log (relay.spool-waits).',
  },
  'master-key': {
    name: 'master key',
    fix: 'It opens none of the stored keys. Give the services the CURFEW_MASTER_KEY with which the keys were stored.',
  },
}

const OPTIONS = { issuer: text('NAME', 'only this issuer'), ...CONNECTION_OPTIONS } as const

export const doctor = command(
  {
    about:
      'check the database, event log, Kafka topics, delivery workers, bookkeepers, master key, clock, quarantine, public URL, whether the IdP publishes our keys, and whether the relay can verify its tokens',
    options: OPTIONS,
    notes: 'Exit status 0: no faults.',
  },
  runDoctor,
)

/** Checks the deployment, and prints the findings. @returns the exit status: 1 if something is wrong. */
async function runDoctor({ values }: Given<typeof OPTIONS>): Promise<number> {
  const client = connect(values)
  const service = await ofService(client)
  const findings = service.isDatabaseAway
    ? [...service.findings, ...['lanes of the event log', 'quarantine', 'keys'].map(notChecked)]
    : [
        ...(await ofProcesses(client, values.issuer, service.findings)),
        ...(await ofQuarantine(client, values.issuer)),
        ...(await ofKeys(client, values.issuer)),
      ]
  const ok = findings.every((finding) => finding.ok)
  if (values.json === true) process.stdout.write(`${JSON.stringify({ ok, findings })}\n`)
  else {
    process.stdout.write(
      table([
        ['', 'CHECK', 'WHAT'],
        ...findings.map((finding) => [markOf(finding), finding.check, finding.what]),
      ]),
    )
    const fixes = findings.flatMap(({ check, fix }) =>
      fix === null ? [] : [`${plain(check)}: ${plain(fix)}\n`],
    )
    // Several findings can have the same fix.
    for (const line of new Set(fixes)) process.stdout.write(line)
  }
  return ok ? 0 : 1
}

function markOf({ ok, fix }: Finding): string {
  if (!ok) return 'WRONG'
  return fix === null ? 'ok' : 'note'
}

/** Readiness checks that say nothing while the database is unavailable. */
const NEED_DATABASE: readonly string[] = [
  ...['workers', 'bookkeepers', 'backlog', 'event-log-choice', 'clock', 'master-key'],
]

function notChecked(check: string): Finding {
  return { check, ok: false, what: 'not checked: the database is unavailable', fix: null }
}

async function ofService(
  client: Client,
): Promise<{ readonly findings: readonly Finding[]; readonly isDatabaseAway: boolean }> {
  const before = Date.now()
  const { checks, unavailable, degraded, needs, date } = await answered(client.readiness())
  const after = Date.now()
  const isDatabaseAway = unavailable.includes('ledger')
  const findings = checks.map((check): Finding => {
    const words: CheckWords = CHECKS[check] ?? { name: check, fix: 'Look in the log of the service.' }
    if (isDatabaseAway && (NEED_DATABASE.includes(check) || needs[check] === 'ledger'))
      return notChecked(words.name)
    const isAway = unavailable.includes(check)
    const ok = !isAway && !degraded.includes(check)
    return {
      check: words.name,
      ok,
      what: ok
        ? (words.ok ?? 'answers')
        : isAway
          ? (words.unavailable ?? 'is unavailable')
          : (words.degraded ?? 'works partly'),
      fix: ok ? null : words.fix,
    }
  })
  if (date === null) return { findings, isDatabaseAway }
  // The Date header has whole seconds.
  const offMs = Math.max(before - date.getTime() - 1_000, date.getTime() - after, 0)
  const offMsMax = Math.max(after - date.getTime(), date.getTime() + 1_000 - before)
  const wrong = offMs > CLOCK_OFF_MS_MAX
  const what = wrong
    ? `of the service differs from that of this machine by ${Math.round(offMs / 1_000)} s`
    : `of the service agrees with that of this machine to ${(offMsMax / 1_000).toFixed(1)} s`
  const fix = wrong
    ? 'Synchronize both clocks with NTP. Relying parties refuse tokens that are too old, or from the future.'
    : null
  return { findings: [...findings, { check: 'clock', ok: !wrong, what, fix }], isDatabaseAway }
}

/**
 * The findings of the readiness, and those about the backlog and the topics of the event log. If the command names one issuer, its
 * owner's key may not read the latter, which is not a fault.
 *
 * @param ready the findings of the readiness, which waits for a grace before it reports that no process is alive.
 */
async function ofProcesses(
  client: Client,
  issuer: string | undefined,
  ready: readonly Finding[],
): Promise<readonly Finding[]> {
  try {
    const view = await answered(client.getEventLog())
    return [...withoutGrace(ready, view), ...eventLogInWords(view)]
  } catch (error) {
    if (!(error instanceof CallFailed)) throw error
    return [
      ...ready,
      {
        check: 'lanes of the event log',
        ok: issuer !== undefined,
        what: `were not checked: ${error.message}`,
        fix: fixOf(error, 'Use a key with the scope admin that is not bound to an issuer.'),
      },
    ]
  }
}

/** The findings of the readiness, in which a kind of process of which none is alive is wrong at once. */
function withoutGrace(
  ready: readonly Finding[],
  { workers_alive, bookkeepers_alive }: EventLogView,
): readonly Finding[] {
  const dead = [
    ...(workers_alive === 0 ? ['workers'] : []),
    ...(bookkeepers_alive === 0 ? ['bookkeepers'] : []),
  ]
  const words = dead.flatMap((check) => CHECKS[check] ?? [])
  return ready.map((finding) => {
    const its = words.find(({ name }) => name === finding.check)
    return its?.degraded === undefined ? finding : { ...finding, ok: false, what: its.degraded, fix: its.fix }
  })
}

function eventLogInWords(view: EventLogView): readonly Finding[] {
  const { answer, choice, lanes, topics } = view
  const facts = [aliveInWords(view), clockInWords(view)]
  if (!answer.ok) return [{ check: 'lanes of the event log', ...answer }, ...facts]
  return [
    ...facts,
    ...(answer.fix === null ? [] : [{ check: 'brokers of Kafka', ...answer }]),
    ...(choice === null ? [] : [{ check: 'choice of event log', ...choice }]),
    ...lanes.map(({ lane, ok, what, fix }) => ({ check: `lane ${lane}`, ok, what, fix })),
    ...topics.flatMap(({ topic, findings }): readonly Finding[] =>
      findings.length === 0
        ? [{ check: `topic ${topic}`, ok: true, what: 'has the wanted settings', fix: null }]
        : findings.map(({ ok, what, fix }) => ({ check: `topic ${topic}`, ok, what, fix })),
    ),
  ]
}

/** The finding about live processes. It is wrong at once if none is alive. */
function aliveInWords({ workers_alive, bookkeepers_alive }: EventLogView): Finding {
  const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`
  const what = `${count(workers_alive, 'delivery worker')} and ${count(bookkeepers_alive, 'bookkeeper')}`
  const missing = [
    ...(workers_alive === 0 ? ['a delivery worker'] : []),
    ...(bookkeepers_alive === 0 ? ['a bookkeeper'] : []),
  ]
  const ok = missing.length === 0
  return { check: 'live processes', ok, what, fix: ok ? null : `Start ${missing.join(' and ')}.` }
}

/** The finding about the clocks of the service and of PostgreSQL. Whether they differ too much is decided by the readiness. */
function clockInWords({ clock_offset_seconds: offset }: EventLogView): Finding {
  const what = `of the service is ${Math.abs(offset).toFixed(3)} s ${offset < 0 ? 'behind' : 'ahead of'} that of PostgreSQL`
  return { check: 'clock of the database', ok: true, what, fix: null }
}

/** The finding about quarantined records that wait for a person. A refused request is a finding, too. */
async function ofQuarantine(client: Client, issuer: string | undefined): Promise<readonly Finding[]> {
  try {
    const { items, next_cursor } = await answered(
      client.listQuarantined({ state: 'waiting', limit: 500, ...(issuer !== undefined && { issuer }) }),
    )
    const count = `${items.length}${next_cursor === null ? '' : ' or more'}`
    return [
      items.length === 0
        ? {
            check: 'quarantine',
            ok: true,
            what: issuer === undefined ? 'is empty' : `is empty for ${issuer}`,
            fix: null,
          }
        : {
            check: 'quarantine',
            ok: false,
            what: `${count} ${items.length === 1 ? 'record waits' : 'records wait'} for a person`,
            fix: 'List the records with curfew quarantine list --state waiting, and requeue or dismiss each of them.',
          },
    ]
  } catch (error) {
    if (!(error instanceof CallFailed)) throw error
    return [
      {
        check: 'quarantine',
        ok: false,
        what: `was not checked: ${error.message}`,
        fix: fixOf(error, 'Use a key with the scope deadletters:read.'),
      },
    ]
  }
}

async function ofKeys(client: Client, named: string | undefined): Promise<readonly Finding[]> {
  try {
    const issuers = named === undefined ? await allIssuers(client) : [await answered(client.getIssuer(named))]
    const findings = [...publicUrlFinding(issuers)]
    for (const { name } of issuers) findings.push(...inWords(await answered(client.checkKeys(name))))
    return findings
  } catch (error) {
    if (!(error instanceof CallFailed)) throw error
    if (named !== undefined && isNotFound(error))
      throw new UsageError(`There is no issuer ${named}, or this key may not see it.`, { cause: error })
    return [
      {
        check: 'keys',
        ok: false,
        what: error.message,
        fix: fixOf(error, 'Correct the findings above, and check the key in use.'),
      },
    ]
  }
}

/** The finding about the public URL, which every issuer shows. */
function publicUrlFinding([issuer]: readonly Issuer[]): readonly Finding[] {
  if (issuer === undefined) return []
  const check = 'public URL'
  const { relay } = issuer.links
  if (relay !== null) return [{ check, ok: true, what: `the relay is at ${relay}`, fix: null }]
  const what = 'is not set, so Curfew knows neither the addresses of its relay nor that they are its own'
  const fix = 'Set CURFEW_PUBLIC_URL to the address by which the outside reaches Curfew.'
  return [{ check, ok: true, what, fix }]
}

/** How to correct a failed call. @param otherwise the text for an unusual answer. */
function fixOf({ cause, message }: CallFailed, otherwise: string): string {
  if (!(cause instanceof ApiError)) return otherwise
  if (cause.status === 401) return 'Set CURFEW_KEY, or --key, to a valid key.'
  if (cause.status === 404 && message.includes(NO_ROUTE))
    return 'Set CURFEW_URL, or --url, to the console or to the proxy in front of it.'
  return otherwise
}

/** Whether the server has the route, but not the object. */
function isNotFound({ cause, message }: CallFailed): boolean {
  return cause instanceof ApiError && cause.status === 404 && !message.includes(NO_ROUTE)
}

function inWords({ issuer, discovery, jwks, rotation, keys, relay }: KeysCheck): readonly Finding[] {
  return [
    { check: `${issuer}: discovery`, ...discovery },
    ...(jwks === null ? [] : [{ check: `${issuer}: jwks_uri`, ...jwks }]),
    ...(rotation === null ? [] : [{ check: `${issuer}: rotation`, ...rotation }]),
    ...keys.map(({ kid, alg, state, ok, what, fix }) => ({
      check: `${issuer}: ${alg} ${state} ${kid.length > 16 ? `${kid.slice(0, 16)}…` : kid}`,
      ok,
      what,
      fix,
    })),
    ...(relay === null
      ? []
      : [
          { check: `${issuer}: relay`, ...relay.keys },
          { check: `${issuer}: retries of the relay`, ...relay.retries },
        ]),
  ]
}
