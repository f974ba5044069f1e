import { setTimeout as sleep } from 'node:timers/promises'
import { type DeliveryId, type EventId, type EventKey, eventKeyOf } from '@curfew/domain'
import pg from 'pg'
import { asLedgerError, connectionOptions, type Database } from '../postgres/database.ts'

// Who waits for an event to be settled is woken by what was settled: by NOTIFY, which reaches everybody who listens in the
// same database. It is a wake-up and nothing more. It may be lost, come twice, or come for another event with the same key.

const CHANNEL = 'curfew_settled'
const KEY_LENGTH = 15
/** PostgreSQL takes payloads shorter than 8,000 bytes. */
const KEYS_IN_PAYLOAD = Math.floor(7_999 / KEY_LENGTH)

const ANNOUNCE = `select pg_notify('${CHANNEL}', payload) from unnest($1::text[]) as payload`
const LISTEN = `listen ${CHANNEL}`
const BEAT = 'select'

const RECONNECT_PAUSE_MS = { first: 100, max: 2_000 }
/** A connection that lasted so long was a good one: its loss says nothing of how long the server will be away. */
const GOOD_AFTER_MS = 10_000
/** How often the connection is seen to live: one that broke without a word would stay silent for ever. */
const BEAT_MS = 5_000
const ANSWER_MS_MAX = 5_000

/**
 * Tells all who follow what may be settled: events by deliveries of theirs, or by their own ids.
 *
 * To be called after the transaction that settled has committed, never within: a transaction that notifies holds a lock of
 * the whole server from before its commit is flushed until after. This one writes nothing, so it does not flush.
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

/** Who is told of what may be settled. */
export interface SettledFollower {
  /** Something of these events was settled. Each event whose key it is may be settled now. */
  onSettled(keys: readonly EventKey[]): void
  /** From now on it is heard; of what was settled before nothing may have been. Called again after each loss. */
  onConnected(): void
  /** The connection was lost, or none can be had. It is tried again. */
  onError(error: unknown): void
}

/**
 * Follows what is announced, on a connection of its own, until `stopping` aborts. Never rejects: a server that is away is
 * tried again and again.
 *
 * @param url must reach PostgreSQL itself, or a pooler in session mode. Through another nothing is heard.
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

/** From connecting to the loss of the connection (rejects), or to a stop (resolves). */
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
