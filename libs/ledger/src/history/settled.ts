import { setTimeout as sleep } from 'node:timers/promises'
import { type DeliveryId, type EventId, type EventKey, eventKeyOf } from '@curfew/domain'
import pg from 'pg'
import { asLedgerError, connectionOptions, type Database } from '../postgres/database.ts'

// Wakes the callers that wait for an event to be settled, by NOTIFY, which reaches every listener of the same database. It is
// only a wake-up: it may be lost, come twice, or come for another event with the same key.

const CHANNEL = 'curfew_settled'
const KEY_LENGTH = 15
/** PostgreSQL takes payloads shorter than 8,000 bytes. */
const KEYS_IN_PAYLOAD = Math.floor(7_999 / KEY_LENGTH)

const ANNOUNCE = `select pg_notify('${CHANNEL}', payload) from unnest($1::text[]) as payload`
const LISTEN = `listen ${CHANNEL}`
const BEAT = 'select'

const RECONNECT_PAUSE_MS = { first: 100, max: 2_000 }
/** A connection that lasted this long resets the pause: its loss does not show how long the server will be unavailable. */
const GOOD_AFTER_MS = 10_000
/** How often the connection is checked: a connection that broke without an error would stay silent for ever. */
const BEAT_MS = 5_000
const ANSWER_MS_MAX = 5_000

/**
 * Notifies all followers of events that may be settled. `ids` are events, or deliveries of theirs.
 *
 * Call this after the settling transaction has committed, never in it: a transaction with NOTIFY holds a lock of the whole server
 * while its commit is flushed. This one writes nothing, so it flushes nothing.
 */
export async function announceSettled(db: Database, ids: readonly (EventId | DeliveryId)[]): Promise<void> {
  const keys = [...new Set(ids.map(eventKeyOf))]
  const payloads: string[] = []
  for (let from = 0; from < keys.length; from += KEYS_IN_PAYLOAD) {
    payloads.push(keys.slice(from, from + KEYS_IN_PAYLOAD).join(''))
  }
  if (payloads.length === 0) return
  await db.query({ name: 'announce_settled', text: ANNOUNCE, values: [payloads] })
}

/** Callbacks for events that may be settled. */
export interface SettledFollower {
  /** Deliveries of these events were settled. Each event with one of these keys may be settled now. */
  onSettled(keys: readonly EventKey[]): void
  /** The follower listens from now on. It may have missed what was settled before. Called again after each lost connection. */
  onConnected(): void
  /** The connection was lost, or could not be opened. It is tried again. */
  onError(error: unknown): void
}

/**
 * Follows the announcements on a separate connection until `stopping` aborts. Never rejects: it reconnects until the server is
 * available.
 *
 * @param url must reach PostgreSQL itself, or a pooler in session mode. Other poolers forward no notifications.
 */
export async function followSettled(
  url: string,
  follower: SettledFollower,
  stopping: AbortSignal,
): Promise<void> {
  for (let pauseMs = RECONNECT_PAUSE_MS.first; !stopping.aborted; ) {
    const beganAt = Date.now()
    try {
      await listen(url, follower, stopping)
    } catch (error) {
      follower.onError(asLedgerError(error))
    }
    if (Date.now() - beganAt > GOOD_AFTER_MS) pauseMs = RECONNECT_PAUSE_MS.first
    await pause(pauseMs, stopping)
    pauseMs = Math.min(pauseMs * 2, RECONNECT_PAUSE_MS.max)
  }
}

/** Connects and listens. Rejects when the connection is lost; resolves when `stopping` aborts. */
async function listen(url: string, follower: SettledFollower, stopping: AbortSignal): Promise<void> {
  const client = new pg.Client({
    ...connectionOptions(url, {
      applicationName: 'curfew waiters',
      statementTimeoutMs: ANSWER_MS_MAX,
      connectTimeoutMs: ANSWER_MS_MAX,
    }),
    query_timeout: ANSWER_MS_MAX,
  })
  const lost = Promise.withResolvers<never>()
  lost.promise.catch(ignore)
  client.on('error', lost.reject)
  client.on('end', () => lost.reject(new Error('Connection terminated')))
  client.on('notification', ({ payload = '' }) => follower.onSettled(keysIn(payload)))
  try {
    await client.connect()
    await client.query(LISTEN)
    follower.onConnected()
    while (!stopping.aborted) {
      await Promise.race([pause(BEAT_MS, stopping), lost.promise])
      if (!stopping.aborted) await client.query(BEAT)
    }
  } finally {
    await client.end().catch(ignore)
  }
}

function keysIn(payload: string): readonly EventKey[] {
  const count = Math.floor(payload.length / KEY_LENGTH)
  return Array.from(
    { length: count },
    (_, n) => payload.slice(n * KEY_LENGTH, (n + 1) * KEY_LENGTH) as EventKey,
  )
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(ignore)
}

function ignore(): undefined {
  return undefined
}
