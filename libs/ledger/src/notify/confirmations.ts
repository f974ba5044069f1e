import {
  type BindingTls,
  type ClientId,
  type IssuerName,
  type NetworkAccess,
  type NetworkRule,
  networkAccess,
} from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'
import { counted } from '../postgres/counters.ts'
import type { Database } from '../postgres/database.ts'
import { type WalkedPage, walk, walkSql } from '../postgres/walk.ts'
import type { StoredSettings } from '../registry/registry.ts'
import { toTls } from '../registry/stored-tls.ts'
import { settleAttempt, settledValues, type WebhookSettlement } from './webhook-deliveries.ts'

/** The address of confirmations to one client, with the secrets that sign them. */
export interface ConfirmationReceiver {
  readonly uri: string
  readonly access: NetworkAccess
  readonly tls: BindingTls | null
  /** The present secret first. */
  readonly sealedSecrets: readonly string[]
}

/** The text of a confirmation, without the sid: see the table. */
export interface WrittenConfirmation {
  readonly writtenAt: Date
  readonly message: Readonly<Record<string, unknown>>
}

/** A claimed confirmation. */
export interface ClaimedConfirmation {
  /** As for webhook deliveries: the number of the attempt, and the fencing token. */
  readonly attempt: number
  /** The `webhook-id`. */
  readonly id: string
  readonly partyId: number
  readonly issuer: IssuerName
  readonly clientId: ClientId
  /** Null if the client has no `confirmation_uri` any more. */
  readonly receiver: ConfirmationReceiver | null
  readonly eventId: string
  /** Null if the event has none, or if its subject was erased. */
  readonly sid: string | null
  /** Null before the first attempt. */
  readonly written: WrittenConfirmation | null
}

// Claims for each client separately, so that the backlog of one is not read for another. `waiting` steps through the clients with
// pending confirmations along the index. An issuer with few confirmations under way comes first, and so does a client within its issuer:
// receivers that hang with a long backlog take no place from others. See `claimWebhookDeliveries` for the lease.
const CLAIM = `
  with recursive waiting(party) as (
    select min(relying_party_id) from confirmations where due_at is not null
     union all
    select (select min(c.relying_party_id) from confirmations c where c.due_at is not null and c.relying_party_id > waiting.party)
      from waiting where waiting.party is not null
  ),
  busy as (
    select given.party, given.count, p.issuer
      from unnest($1::bigint[], $2::int[]) as given(party, count) join relying_parties p on p.id = given.party
  ),
  found as (
    select d.id, d.due_at, p.issuer,
           coalesce(busy.count, 0) + row_number() over (partition by p.id order by d.due_at) as turn
      from waiting
      join relying_parties p on p.id = waiting.party
      left join busy on busy.party = waiting.party
      cross join lateral (
        select id, due_at from confirmations
         where relying_party_id = waiting.party and due_at <= now()
         order by due_at limit greatest(0, $3 - coalesce(busy.count, 0))
           for update skip locked
      ) d
  ),
  due as (
    select id
      from (
        select id, due_at,
               coalesce((select sum(count) from busy where busy.issuer = found.issuer), 0)
                 + row_number() over (partition by issuer order by turn, due_at) as turn
          from found
      ) fair
     order by turn, due_at limit $4
  ),
  claimed as (
    update confirmations
       set attempts = ${counted('attempts', 1)}, attempted_at = now(), due_at = now() + make_interval(secs => $5::float8 / 1000)
     where id = any(array(select id from due))
    returning attempts, id, relying_party_id, event_id, written_at, message
  )
  select c.attempts as attempt, c.id, p.id as "partyId", p.issuer, p.client_id as "clientId", p.settings,
         p.network_rule as "networkRule", i.defaults, i.network_rule as "issuerNetworkRule", c.event_id as "eventId", e.sid,
         c.written_at as "writtenAt", c.message
    from claimed c
    join relying_parties p on p.id = c.relying_party_id
    join issuers i on i.name = p.issuer
    left join events e on e.id = c.event_id`

interface ClaimedRow extends Omit<ClaimedConfirmation, 'receiver' | 'written'> {
  readonly settings: StoredSettings
  readonly networkRule: NetworkRule | null
  readonly defaults: StoredSettings
  readonly issuerNetworkRule: NetworkRule | null
  readonly writtenAt: Date | null
  readonly message: WrittenConfirmation['message'] | null
}

/**
 * Claims the due confirmations for `leaseMs`.
 *
 * @param busy the number of confirmations that the caller is sending, by client (`partyId`).
 * @param most the most confirmations that the caller may send to one client at once.
 * @param limit the most confirmations in this call.
 */
export async function claimConfirmations(
  db: Database,
  {
    busy,
    most,
    limit,
    leaseMs,
  }: { busy: ReadonlyMap<number, number>; most: number; limit: number; leaseMs: number },
): Promise<readonly ClaimedConfirmation[]> {
  const { rows } = await db.query<ClaimedRow>({
    name: 'claim_confirmations',
    text: CLAIM,
    values: [plainArray([...busy.keys()]), plainArray([...busy.values()]), most, limit, leaseMs],
  })
  return rows.map(toClaimed)
}

function toClaimed({
  settings,
  networkRule,
  defaults,
  issuerNetworkRule,
  writtenAt,
  message,
  ...row
}: ClaimedRow): ClaimedConfirmation {
  const { confirmation_uri: uri, confirmation: secrets, tls, allowed_networks: chosen } = settings
  const party = { chosen, rule: networkRule }
  const access = networkAccess(party, { chosen: defaults.allowed_networks, rule: issuerNetworkRule })
  const receiver =
    uri === undefined || secrets === undefined
      ? null
      : { uri, access, tls: toTls(tls), sealedSecrets: secretsOf(secrets) }
  return { ...row, receiver, written: writtenAt === null || message === null ? null : { writtenAt, message } }
}

function secretsOf(secrets: NonNullable<StoredSettings['confirmation']>): readonly string[] {
  const { sealed_secret, sealed_previous_secret, previous_secret_until } = secrets
  const overlaps = previous_secret_until !== undefined && Date.parse(previous_secret_until) > Date.now()
  return overlaps && sealed_previous_secret !== undefined
    ? [sealed_secret, sealed_previous_secret]
    : [sealed_secret]
}

const WRITE = `
  update confirmations set message = $3, written_at = $4
   where id = $1 and attempts = $2 and state = 'pending' and message is null`

/** Stores the message of a claimed confirmation. @returns false, and stores nothing, if it was claimed again. */
export async function writeConfirmation(
  db: Database,
  { id, attempt }: Pick<ClaimedConfirmation, 'id' | 'attempt'>,
  { writtenAt, message }: WrittenConfirmation,
): Promise<boolean> {
  const values = [id, attempt, JSON.stringify(message), writtenAt]
  const { rowCount } = await db.query({ name: 'write_confirmation', text: WRITE, values })
  return rowCount === 1
}

const SETTLE = settleAttempt('confirmations', 'id')

/** Records the outcome of an attempt. @returns false, and records nothing, if the confirmation was claimed again. */
export async function settleConfirmation(
  db: Database,
  { claimed, settlement }: { claimed: ClaimedConfirmation; settlement: WebhookSettlement },
): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'settle_confirmation',
    text: SETTLE,
    values: [claimed.id, ...settledValues(claimed.attempt, settlement)],
  })
  return rowCount === 1
}

/** A confirmation in the list of its client. */
export interface ConfirmationRecord {
  readonly position: number
  readonly id: string
  /** The id that the issuer gave the event. */
  readonly givenEventId: string
  readonly state: 'pending' | 'delivered' | 'failed'
  /** Null before the message is written. */
  readonly complete: boolean | null
  readonly attempts: number
  readonly createdAt: Date
  readonly deadlineAt: Date
  readonly attemptedAt: Date | null
  readonly dueAt: Date | null
  readonly settledAt: Date | null
  readonly status: number | null
  readonly error: string | null
}

const PARTY = 'select id from relying_parties where issuer = $1 and client_id = $2'

const LIST = {
  name: 'list_confirmations',
  text: walkSql({
    table: 'confirmations',
    key: ['position'],
    order: 'desc',
    byParts: false,
    where: 't.relying_party_id = $4::bigint and t.position < $5::bigint',
    columns: ['state'],
    filter: '($6::text is null or w.state = $6)',
    returned: 'w.position',
  }),
}
const RECORDS = `
  select c.position, c.id, e.given_id as "givenEventId", c.state, (c.message ->> 'complete')::boolean as complete, c.attempts,
         c.created_at as "createdAt", c.deadline_at as "deadlineAt", c.attempted_at as "attemptedAt", c.due_at as "dueAt",
         c.settled_at as "settledAt", c.status, c.error
    from confirmations c join events e on e.id = c.event_id
   where c.relying_party_id = $1 and c.position = any($2::bigint[])
   order by c.position desc`

/** Lists the confirmations of a client, the latest first. @param before the last position of the page before. */
export async function listConfirmations(
  db: Database,
  {
    issuer,
    clientId,
    state,
    before,
    limit,
  }: { issuer: string; clientId: string; state: string | null; before: number | null; limit: number },
): Promise<WalkedPage<ConfirmationRecord, number>> {
  const { rows: parties } = await db.query<{ id: number }>({
    name: 'party_of_confirmations',
    text: PARTY,
    values: [issuer, clientId],
  })
  const [party] = parties
  if (party === undefined) return { rows: [], reached: null }
  const { keys, reached } = await walk<{ position: number }>(db, LIST, {
    ...{ parts: null, limit },
    values: [party.id, before ?? Number.MAX_SAFE_INTEGER, state],
  })
  const positions = plainArray(keys.map(({ position }) => position))
  const { rows } = await db.query<ConfirmationRecord>({ text: RECORDS, values: [party.id, positions] })
  return { rows, reached: reached?.position ?? null }
}
