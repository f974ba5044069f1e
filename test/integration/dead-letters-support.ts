import { randomBytes } from 'node:crypto'
import { uuidV7 } from '@curfew/domain'
import { type Database, type DeadLetterFilter, withTransaction } from '@curfew/ledger'
import { ISS, ISSUER, storedId } from '../support/curfew.ts'

/** Selects every dead letter. */
export const ALL: DeadLetterFilter = {
  issuer: null,
  clientIds: null,
  channel: null,
  reason: null,
  from: null,
  to: null,
  ids: null,
}

export interface Pile {
  readonly clientId: string
  readonly count: number
  /** The issuer of the events. By default the issuer of all tests. */
  readonly iss?: string
  readonly reason?: string
  /** Age of the oldest dead letter. Every later one is a second younger. Default: an hour. */
  readonly secondsAgo?: number
  /** When the sessions end, in seconds from now. Default: unknown. */
  readonly sessionEndsInS?: number
  /** The last attempt of every delivery. Default: none. */
  readonly attempt?: {
    readonly status: number | null
    readonly errorClass: string
    readonly error?: string
    readonly location?: string
  }
}

const PILE_EVENTS = `
  insert into events (id, given_id, digest, iss, sub, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
  select id, given_id, '\\x00', $3, given_id::text, 'subject', false, true, at, 'interactive', at, at, at, 'registered'
    from unnest($1::uuid[], $2::uuid[], $4::timestamptz[]) as e(id, given_id, at)`

const PILE_DELIVERIES = `
  insert into deliveries (id, event_id, binding_id, state, lane, planned_at, attempts, retries, settled_at, dead_letter_reason,
    session_ends_at)
  select overlay(e.id::text placing '8' from 15)::uuid, e.id, b.id, 'dead_lettered', 'interactive', at, $6, 9,
         at + interval '1 microsecond', $4, now() + $5::float8 * interval '1 second'
    from unnest($1::uuid[], $2::timestamptz[]) as e(id, at)
    join relying_parties p on p.client_id = $3
    join bindings b on b.relying_party_id = p.id
  returning id`

const PILE_ATTEMPTS = `
  insert into attempts (delivery_id, number, started_at, duration_ms, outcome, status, error_class, error, location, worker_id)
  select id, 1, planned_at, 5, 'refused', $2, $3, $4, $5, id from deliveries where id = any($1::uuid[])`

/** Inserts dead letters into the ledger, one for each of `count` new events. @returns their ids, the oldest first. */
export async function pileUp(db: Database, pile: Pile): Promise<readonly string[]> {
  const { clientId, count, reason = 'attempts_exhausted', secondsAgo = 3_600, sessionEndsInS = null } = pile
  const { attempt } = pile
  const start = Date.now() - secondsAgo * 1_000
  const times = Array.from({ length: count }, (_, index) => new Date(start + index * 1_000))
  const { iss = ISS } = pile
  const given = times.map((time) => uuidV7(time, randomBytes(10)))
  const events = given.map((id) => storedId(id, iss))
  // One transaction, because a bookkeeper that runs at the same time would publish a dead letter without its attempt.
  return withTransaction(db, async (transaction) => {
    await transaction.query(PILE_EVENTS, [events, given, iss, times])
    const { rows } = await transaction.query<{ id: string }>(PILE_DELIVERIES, [
      events,
      times,
      clientId,
      reason,
      sessionEndsInS,
      attempt === undefined ? 0 : 1,
    ])
    const ids = rows.map(({ id }) => id).toSorted()
    if (ids.length !== count) throw new Error(`${clientId} must have exactly one binding`)
    if (attempt !== undefined) {
      const { status, errorClass, error = null, location = null } = attempt
      await transaction.query(PILE_ATTEMPTS, [ids, status, errorClass, error, location])
    }
    return ids
  })
}

/** Counts the deliveries by state and generation. */
export async function standing(db: Database): Promise<Readonly<Record<string, number>>> {
  const { rows } = await db.query<{ what: string; count: number }>(
    `select state || ' ' || generation as what, count(*) as count from deliveries group by 1 order by 1`,
  )
  return Object.fromEntries(rows.map(({ what, count }) => [what, count]))
}

/** Registers relying parties at an address that never receives a call. */
export async function registerQuietly(
  call: (method: string, path: string, body?: unknown) => Promise<Response>,
  clientIds: readonly string[],
): Promise<void> {
  for (const clientId of clientIds) {
    const { status } = await call('PUT', `/v1/issuers/${ISSUER}/relying-parties/${clientId}`, {
      client_name: `The ${clientId}`,
      backchannel_logout_uri: `https://rp.example/${clientId}/logout`,
    })
    if (status !== 201) throw new Error(`registering ${clientId} failed: the API answered ${status}`)
  }
}
