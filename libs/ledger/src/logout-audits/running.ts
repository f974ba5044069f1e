import {
  type AuditDelivery,
  type AuditOutcome,
  type AuditSettings,
  type BindingTls,
  type ClientId,
  type DeliveryState,
  deliveryIdRange,
  type EventId,
  type Issuer,
  type IssuerName,
  type Level,
  type NetworkAccess,
  type NetworkRule,
  networkAccess,
} from '@curfew/domain'
import { BOOKKEEPER } from '../access/audit.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { namedParameters } from '../postgres/parameters.ts'
import { effectiveSettings, type StoredSettings } from '../registry/registry.ts'
import { toTls } from '../registry/stored-tls.ts'
import type { AuditFindings } from './audits.ts'

// The audits as bookkeepers run them. A bookkeeper owns an audit by its lease, which it extends. Each statement checks the lease,
// so a bookkeeper that lost it changes nothing.

/** An audit to run, with its set-up and the networks and TLS settings of its relying party. */
export interface ClaimedAudit {
  readonly id: string
  readonly issuer: IssuerName
  readonly iss: Issuer
  readonly clientId: ClientId
  readonly settings: AuditSettings
  readonly sealedSecrets: string | null
  readonly access: NetworkAccess
  readonly tls: BindingTls | null
}

const DUE_SETUPS = `
  select issuer, client_id as "clientId" from logout_audit_setups
   where next_due_at <= now() order by next_due_at limit $1 for update skip locked`

// The jitter of a tenth keeps many set-ups with one schedule apart.
const START_DUE = `
  with due as (select * from unnest($1::uuid[], $2::text[], $3::text[]) as due(id, issuer, client_id)),
  next as (
    update logout_audit_setups s set next_due_at = now() + s.every_s * (0.9 + random() * 0.2) * interval '1 second'
      from due where s.issuer = due.issuer and s.client_id = due.client_id
  )
  insert into logout_audits (id, issuer, client_id, trigger, requested_by)
  select id, issuer, client_id, 'schedule', '${BOOKKEEPER}' from due
  on conflict (issuer, client_id) where ended_at is null do nothing`

/**
 * Requests the audits that are due. A relying party whose audit waits or runs skips this turn.
 *
 * @param newId makes a UUIDv7.
 * @returns the number of due set-ups.
 */
export async function startDueAudits(
  db: Database,
  { limit, newId }: { limit: number; newId: () => string },
): Promise<number> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<{ issuer: string; clientId: string }>({
      name: 'due_audit_setups',
      text: DUE_SETUPS,
      values: [limit],
    })
    if (rows.length === 0) return 0
    await transaction.query({
      name: 'start_due_audits',
      text: START_DUE,
      values: [rows.map(newId), rows.map(({ issuer }) => issuer), rows.map(({ clientId }) => clientId)],
    })
    return rows.length
  })
}

const lease = (ms: string) => `now() + ${ms}::float8 * interval '1 millisecond'`

const CLAIM = `
  with own as (
    select issuer, count(*) as running from logout_audits where state = 'running' and leased_by = $2 group by issuer
  ),
  queues as (
    select id, coalesce(own.running, 0) + row_number() over (partition by issuer order by requested_at, id) as place
      from logout_audits left join own using (issuer) where state = 'waiting'
  ),
  picked as (
    select w.id from logout_audits w join queues q using (id)
     where w.state = 'waiting' and q.place <= $4 order by q.place, w.requested_at limit $1 for update of w skip locked
  )
  update logout_audits a
     set state = 'running', started_at = now(), leased_by = $2, leased_until = ${lease('$3')}
    from picked, logout_audit_setups s, relying_parties p, issuers i
   where a.id = picked.id and s.issuer = a.issuer and s.client_id = a.client_id
     and p.issuer = a.issuer and p.client_id = a.client_id and i.name = a.issuer
  returning a.id, a.issuer, i.iss, a.client_id as "clientId", s.settings, s.sealed_secrets as "sealedSecrets",
    p.settings as "partySettings", p.network_rule as "networkRule", i.defaults, i.network_rule as "issuerNetworkRule"`

type ClaimedRow = Omit<ClaimedAudit, 'access' | 'tls'> & {
  readonly partySettings: StoredSettings
  readonly networkRule: NetworkRule | null
  readonly defaults: StoredSettings
  readonly issuerNetworkRule: NetworkRule | null
}

/**
 * Claims waiting audits, the oldest of each issuer in turn. No two bookkeepers get the same audit.
 *
 * @param ofIssuerMax most audits of one issuer that the owner runs at once, so that its slow relying parties leave room for others.
 */
export async function claimAudits(
  db: Database,
  {
    limit,
    owner,
    leaseMs,
    ofIssuerMax,
  }: { limit: number; owner: string; leaseMs: number; ofIssuerMax: number },
): Promise<readonly ClaimedAudit[]> {
  const { rows } = await db.query<ClaimedRow>({
    name: 'claim_audits',
    text: CLAIM,
    values: [limit, owner, leaseMs, ofIssuerMax],
  })
  return rows.map(({ partySettings, networkRule, defaults, issuerNetworkRule, ...audit }) => ({
    ...audit,
    access: networkAccess(
      { chosen: partySettings.allowed_networks, rule: networkRule },
      { chosen: defaults.allowed_networks, rule: issuerNetworkRule },
    ),
    tls: toTls(effectiveSettings(partySettings, defaults).tls),
  }))
}

const EXTEND = `
  update logout_audits set leased_until = ${lease('$3')}
   where id = any($1::uuid[]) and state = 'running' and leased_by = $2 returning id`

/** Extends the leases of running audits. @returns the audits that the owner still has. */
export async function extendAuditLeases(
  db: Database,
  { ids, owner, leaseMs }: { ids: readonly string[]; owner: string; leaseMs: number },
): Promise<ReadonlySet<string>> {
  const { rows } = await db.query<{ id: string }>({
    name: 'extend_audit_leases',
    text: EXTEND,
    values: [ids, owner, leaseMs],
  })
  return new Set(rows.map(({ id }) => id))
}

const ENDED = "state = 'ended', ended_at = now(), leased_by = null, leased_until = null"
/** An interrupted audit of a schedule runs again within this time, in seconds. */
const AGAIN_S = 60

const END_LEFT = `
  with left_over as (
    update logout_audits set ${ENDED}, result = 'inconclusive', reason = 'interrupted'
     where state = 'running' and leased_until < now()
    returning id, issuer, client_id
  ),
  again as (
    update logout_audit_setups s set next_due_at = least(s.next_due_at, now() + ${AGAIN_S} * interval '1 second')
      from left_over l where s.issuer = l.issuer and s.client_id = l.client_id and s.every_s is not null
  )
  select id from left_over`

/**
 * Ends the audits whose bookkeeper has stopped. They are inconclusive, and a schedule runs them again soon.
 *
 * @returns their ids.
 */
export async function endLeftAudits(db: Database): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>({ name: 'end_left_audits', text: END_LEFT })
  return rows.map(({ id }) => id)
}

const NOTE_EVENT = `
  update logout_audits set event_id = $3, accepted_at = $4
   where id = $1 and state = 'running' and leased_by = $2 and leased_until > now()`

/** Stores the event of an audit before it is posted. @returns false if the lease is lost: then nothing may be posted. */
export async function noteAuditEvent(
  db: Database,
  { id, owner, eventId, acceptedAt }: { id: string; owner: string; eventId: string; acceptedAt: Date },
): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'note_audit_event',
    text: NOTE_EVENT,
    values: [id, owner, eventId, acceptedAt],
  })
  return rowCount === 1
}

const DELIVERIES = `
  select d.state, d.level, d.attempts - d.unsent as attempts from deliveries d
    join bindings b on b.id = d.binding_id
    join relying_parties p on p.id = b.relying_party_id
   where d.id between $2 and $3 and d.event_id = $1 and p.client_id = $4`

/** The deliveries of an event to one client. `attempts` counts those that sent a request. */
export async function listAuditDeliveries(
  db: Queryable,
  { eventId, clientId }: { eventId: EventId; clientId: ClientId },
): Promise<
  readonly { readonly state: DeliveryState; readonly level: Level | null; readonly attempts: number }[]
> {
  const { rows } = await db.query<{ state: DeliveryState; level: Level | null; attempts: number }>({
    name: 'list_audit_deliveries',
    text: DELIVERIES,
    values: [eventId, ...deliveryIdRange(eventId), clientId],
  })
  return rows
}

const REPEAT = `
  update logout_audit_setups set next_due_at = least(next_due_at, now() + ${AGAIN_S} * interval '1 second')
   where issuer = $1 and client_id = $2 and every_s is not null`

/** The result of an audit. */
export interface AuditConclusion {
  readonly id: string
  readonly owner: string
  readonly outcome: AuditOutcome
  readonly delivery: AuditDelivery | null
  readonly propagationMs: number | null
  readonly findings: AuditFindings
}

const RESULT = namedParameters({
  id: 'uuid',
  owner: 'uuid',
  result: 'text',
  reason: 'text',
  delivery_state: 'text',
  delivery_level: 'text',
  propagation_ms: 'integer',
  findings: 'jsonb',
})
const { $ } = RESULT
const END = `
  update logout_audits
     set ${ENDED}, result = ${$.result}, reason = ${$.reason}, delivery_state = ${$.delivery_state},
         delivery_level = ${$.delivery_level}, propagation_ms = ${$.propagation_ms}, findings = ${$.findings}
   where id = ${$.id} and state = 'running' and leased_by = ${$.owner}
  returning issuer, client_id as "clientId", event_id as "eventId"`

const LOCK_SETUP = `
  select last_result as "lastResult", last_passed_at as "lastPassedAt" from logout_audit_setups
   where issuer = $1 and client_id = $2 for no key update`

const KEEP_RESULT = `
  update logout_audit_setups
     set last_result = $3, last_concluded_at = now(),
         last_passed_at = case when $3 = 'passed' then now() else last_passed_at end,
         last_propagation_ms = case when $3 = 'passed' then $4::integer else last_propagation_ms end
   where issuer = $1 and client_id = $2`

const NOTIFY = "insert into notifications (type, issuer, data) values ('audit.failed', $1, $2)"

/**
 * Ends an audit, and keeps its result with the set-up unless it is inconclusive. Writes a notification if the relying party failed
 * and had not failed before. An interrupted audit of a schedule runs again soon.
 *
 * @returns false, and changes nothing, if the lease is lost.
 */
export async function endAudit(
  db: Database,
  { id, owner, outcome, delivery, propagationMs, findings }: AuditConclusion,
): Promise<boolean> {
  const { result, reason } = outcome
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<{ issuer: string; clientId: string; eventId: string | null }>({
      name: 'end_audit',
      text: END,
      values: RESULT.values({
        ...{ id, owner, result, reason, propagation_ms: propagationMs, findings: JSON.stringify(findings) },
        delivery_state: delivery?.state ?? null,
        delivery_level: delivery?.level ?? null,
      }),
    })
    const [ended] = rows
    if (ended === undefined) return false
    const party = [ended.issuer, ended.clientId]
    if (reason === 'interrupted')
      await transaction.query({ name: 'repeat_audit', text: REPEAT, values: party })
    if (result === 'inconclusive') return true
    const { rows: setups } = await transaction.query<{
      lastResult: string | null
      lastPassedAt: Date | null
    }>({ name: 'lock_audit_setup', text: LOCK_SETUP, values: party })
    await transaction.query({
      name: 'keep_audit_result',
      text: KEEP_RESULT,
      values: [...party, result, propagationMs],
    })
    const [before] = setups
    if (result !== 'failed' || before?.lastResult === 'failed') return true
    const data = {
      ...{ issuer: ended.issuer, client_id: ended.clientId, audit_id: id, reason },
      ...{
        event_id: ended.eventId,
        delivery_state: delivery?.state ?? null,
        delivery_level: delivery?.level ?? null,
      },
      ...{
        last_passed_at: before?.lastPassedAt?.toISOString() ?? null,
        what: findings.what,
        fix: findings.fix,
      },
    }
    await transaction.query({
      name: 'notify_audit_failed',
      text: NOTIFY,
      values: [ended.issuer, JSON.stringify(data)],
    })
    return true
  })
}

const STATES = `
  select issuer, client_id as "clientId", last_result as "lastResult", last_propagation_ms as "propagationMs", every_s as "everyS",
         case when every_s is not null
              then extract(epoch from now() - coalesce(last_concluded_at, scheduled_since))::float8 end as "ageS"
    from logout_audit_setups
   order by coalesce(last_result, '') = 'failed' desc, coalesce(last_concluded_at, created_at) limit $1`

/** The state of one relying party's audits. */
export interface AuditedParty {
  readonly issuer: string
  readonly clientId: string
  readonly lastResult: 'passed' | 'failed' | null
  /** In the last passed audit. */
  readonly propagationMs: number | null
  /** Since the last conclusive audit, or since the schedule began, in seconds. Null without a schedule. */
  readonly ageS: number | null
  /** The time between two audits, in seconds. Null without a schedule. */
  readonly everyS: number | null
}

/** Lists the state of audited relying parties: the failed ones first, then those whose last audit is the longest ago. */
export async function listAuditedParties(
  db: Queryable,
  { limit }: { limit: number },
): Promise<readonly AuditedParty[]> {
  const { rows } = await db.query<AuditedParty>({
    name: 'list_audited_parties',
    text: STATES,
    values: [limit],
  })
  return rows
}
