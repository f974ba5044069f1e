import { encodeLogoutEvent } from '@curfew/contract'
import {
  AUDIT_BEGUN,
  type AuditOutcome,
  AuditSecretError,
  type AuditSecrets,
  type AuditState,
  advanceAudit,
  auditPauseMs,
  type CheckSays,
  type ClientId,
  ClientKeyError,
  CurfewError,
  concludeAudit,
  type Digest,
  describeAudit,
  type EventId,
  type EventLog,
  EventLogUnavailableError,
  eventIdOf,
  type GivenEventId,
  hasEnded,
  type LogoutEvent,
  readCheck,
  summarizeAuditDeliveries,
  wasSent,
} from '@curfew/domain'
import type { AuditFindings, ClaimedAudit, endAudit, listAuditDeliveries } from '@curfew/ledger'
import { send } from '@curfew/wiring'
import { logIn, type TestSession } from './login.ts'
import { createRefreshing, type RefreshingDeps } from './refreshing.ts'
import { NAVIGATION, type Visitor } from './visitor.ts'

export interface RunDeps extends RefreshingDeps {
  readonly eventLog: Pick<EventLog, 'append'>
  /** Opens the secrets of the set-up. @throws {AuditSecretError} */
  readonly openSecrets: (audit: ClaimedAudit) => Promise<AuditSecrets>
  readonly newVisitor: (audit: ClaimedAudit) => Promise<Visitor>
  /** Stores the event before it is posted. @returns false if the lease is lost. */
  readonly noteEvent: (event: { eventId: string; acceptedAt: Date }) => Promise<boolean>
  readonly deliveriesOf: DeliveriesOf
  /** As `deliveriesOf`, but fails at once while PostgreSQL is unavailable. */
  readonly deliveriesNow: DeliveriesOf
  readonly newId: () => string
  readonly digest: Digest
  readonly now: () => Date
}

type DeliveriesOf = (event: {
  readonly eventId: EventId
  readonly clientId: ClientId
}) => ReturnType<typeof listAuditDeliveries>

/** The result of an audit, without the owner of its lease. */
export type AuditReport = Omit<Parameters<typeof endAudit>[1], 'owner'>

const CHECK_TIMEOUT_MS = 10_000
/** The time for which the session must stay over after the last refresh, in milliseconds. */
export const WATCH_MS = 2_000

/** The last answer of the check. */
interface Seen {
  readonly says: CheckSays
  readonly status: number | null
  readonly location: string | null
}

/**
 * Runs one audit: makes a session, sees it alive, posts its logout, and checks it until it is over or has survived. Never rejects
 * for what a relying party or an IdP did.
 */
export async function runAudit(audit: ClaimedAudit, deps: RunDeps): Promise<AuditReport> {
  let secrets: AuditSecrets
  let visitor: Visitor
  try {
    secrets = await deps.openSecrets(audit)
    visitor = await deps.newVisitor(audit)
  } catch (error) {
    if (!isUnreadable(error)) throw error
    return reportOf(audit, { state: { phase: 'stopped', reason: 'secrets_unreadable' } })
  }
  const { settings, iss } = audit
  const session = await logIn({ visitor, settings, secrets, iss, stopped: () => deps.interrupted.aborted })
  if ('failure' in session) {
    if (deps.interrupted.aborted)
      return reportOf(audit, { state: { phase: 'stopped', reason: 'interrupted' } })
    return reportOf(audit, {
      state: { phase: 'stopped', reason: 'login_failed' },
      hindrance: session.failure,
    })
  }
  return auditSession(audit, session, visitor, deps)
}

/**
 * The report of an audit that an error of Curfew has ended. It quotes only errors of Curfew itself, because others, such as those of
 * PostgreSQL, may contain a value.
 */
export function failedReport(audit: ClaimedAudit, error: unknown): AuditReport {
  const { name, code } = error instanceof Error ? (error as Error & { code?: unknown }) : {}
  const hindrance =
    error instanceof CurfewError
      ? error.message.replace(/\.$/, '')
      : `The error is ${name ?? typeof error}${code === undefined ? '' : ` with the code ${String(code)}`}`
  return reportOf(audit, { state: { phase: 'stopped', reason: 'run_failed' }, hindrance })
}

function isUnreadable(error: unknown): boolean {
  return error instanceof AuditSecretError || error instanceof ClientKeyError
}

async function auditSession(
  audit: ClaimedAudit,
  session: TestSession,
  visitor: Visitor,
  deps: RunDeps,
): Promise<AuditReport> {
  const { settings } = audit
  const limits = { timeoutMs: settings.timeout_s * 1_000, watchMs: WATCH_MS }
  const refreshing = createRefreshing(audit, session, visitor, deps)
  let state: AuditState = AUDIT_BEGUN
  let seen: Seen | null = null
  const check = async () => {
    const startedMs = deps.monotonicMs()
    seen = await checkOnce(settings.check, session, visitor)
    const fact = { kind: 'checked', says: seen.says, startedMs, atMs: deps.monotonicMs() } as const
    state = advanceAudit(state, { ...fact, refreshedMs: refreshing.endedMs() }, limits)
  }
  // A session that is there ends with its audit: a bookkeeper that stops still posts the logout.
  if (!deps.interrupted.aborted) await check()
  if (hasEnded(state)) return reportOf(audit, { state, seen })

  const event = eventOf(audit, session, deps)
  const known = { eventId: event.id, clientId: audit.clientId }
  const { givenId: eventId, acceptedAt } = event
  if (!(await deps.noteEvent({ eventId, acceptedAt })))
    return reportOf(audit, { state: { phase: 'stopped', reason: 'interrupted' }, seen })
  const atMs = deps.monotonicMs()
  refreshing.begin(async () => summarizeAuditDeliveries(await deps.deliveriesNow(known))?.state)
  try {
    await send(
      { items: [event], parent: null, laneOf: ({ lane }) => lane, encode: encodeLogoutEvent },
      (records) => deps.eventLog.append(records),
    )
    state = advanceAudit(state, { kind: 'accepted', atMs }, limits)
  } catch (error) {
    if (!(error instanceof EventLogUnavailableError)) throw error
    state = advanceAudit(state, { kind: 'hindered', reason: 'not_accepted' }, limits)
  }

  let checks = 0
  for (; !hasEnded(state); checks++) {
    await deps.pause(auditPauseMs(checks, state, { timeoutMs: limits.timeoutMs, nowMs: deps.monotonicMs() }))
    if (deps.interrupted.aborted)
      state = advanceAudit(state, { kind: 'hindered', reason: 'interrupted' }, limits)
    else await check()
    if (state.phase !== 'ending') refreshing.end()
  }
  refreshing.end()
  const deliveries = await deps.deliveriesOf(known)
  const delivery = summarizeAuditDeliveries(deliveries)
  const sent = wasSent(deliveries)
  return reportOf(audit, { state, seen, delivery, sent, checks, refreshes: refreshing.answered() })
}

/** The logout of the test session: of the session if its sid is known, otherwise of the subject. Only the audited client is notified. */
function eventOf(
  { iss, clientId }: ClaimedAudit,
  { sub, sid }: TestSession,
  { newId, digest, now }: RunDeps,
): LogoutEvent {
  const givenId = newId() as GivenEventId
  const base = {
    ...({ id: eventIdOf(iss, givenId, digest), givenId, iss, reason: 'audit', initiator: null } as const),
    ...({ includeInitiator: false, clients: [clientId], lane: 'interactive', occurredAt: null } as const),
    acceptedAt: now(),
  }
  if (sid !== null) return { ...base, scope: 'session', sid, sub }
  if (sub === null) throw new Error('a session of an audit has neither sub nor sid')
  return { ...base, scope: 'subject', sub, sid }
}

/** Asks once whether the session lives. Only a living session keeps the cookies of the answer, so that a check ends nothing. */
async function checkOnce(
  check: ClaimedAudit['settings']['check'],
  { headers }: TestSession,
  visitor: Visitor,
): Promise<Seen> {
  const answer = await visitor.visit({
    ...{ url: check.url, timeoutMs: CHECK_TIMEOUT_MS },
    headers: { ...NAVIGATION, ...headers },
    keeps: (visited) => readCheck(check, visited) === 'logged_in',
  })
  if ('detail' in answer) return { says: readCheck(check, null), status: null, location: null }
  return { says: readCheck(check, answer), status: answer.status, location: answer.shownLocation }
}

function reportOf(
  { id, settings }: ClaimedAudit,
  {
    state,
    seen = null,
    delivery = null,
    sent = false,
    hindrance = null,
    checks = 0,
    refreshes = 0,
  }: {
    state: Parameters<typeof concludeAudit>[0]
    seen?: Seen | null
    delivery?: AuditReport['delivery']
    sent?: boolean
    hindrance?: string | null
    checks?: number
    refreshes?: number
  },
): AuditReport {
  const outcome: AuditOutcome = concludeAudit(state, {
    delivery,
    sent,
    refreshes: settings.refresh !== undefined,
  })
  const propagationMs =
    state.phase === 'over' && outcome.result === 'passed' ? Math.round(state.overMs - state.acceptedMs) : null
  const words = describeAudit({
    ...{ outcome, delivery, propagationMs, timeoutS: settings.timeout_s },
    hindrance: outcome.reason === 'check_unclear' ? checkInWords(seen) : hindrance,
  })
  const findings: AuditFindings = { ...words, check: seen, checks, refreshes }
  return { id, outcome, delivery, propagationMs, findings }
}

function checkInWords(seen: Seen | null): string | null {
  if (seen === null) return null
  return seen.status === null
    ? 'The last check got no answer'
    : `The last check was answered with the status ${seen.status}`
}
