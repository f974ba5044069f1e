import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from '@curfew/client'
import type { AcceptedOrRejected, LogoutEventInput, SessionInput } from '@curfew/contract'
import { uuidV7 } from '@curfew/domain'
import { expect } from 'vitest'
import type { Random } from './random.ts'

// The load of every chaos case: a client that posts without pause, and relying parties that count.

export const ISSUER = 'main'
export const ISS = 'https://idp.example'

/** A relying party that acknowledges everything, and counts the tokens of each event. */
export interface Tally {
  readonly clientId: string
  readonly uri: string
  readonly times: ReadonlyMap<string, number>
  /** When the first token of each event arrived, by `performance.now()`. */
  readonly firstAtMs: ReadonlyMap<string, number>
  /** Answers 503 to the next `count` requests. */
  fail(count: number): void
  close(): Promise<void>
}

export async function openTally(clientId: string): Promise<Tally> {
  const times = new Map<string, number>()
  const firstAtMs = new Map<string, number>()
  let failures = 0
  const server = createServer(async (request, response) => {
    const atMs = performance.now()
    let body = ''
    for await (const chunk of request) body += chunk
    const token = new URLSearchParams(body).get('logout_token') ?? ''
    const payload = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8')
    const { txn } = JSON.parse(payload) as { readonly txn: string }
    times.set(txn, (times.get(txn) ?? 0) + 1)
    if (!firstAtMs.has(txn)) firstAtMs.set(txn, atMs)
    response.writeHead(failures > 0 ? 503 : 200).end()
    failures = Math.max(failures - 1, 0)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    clientId,
    uri: `http://127.0.0.1:${(server.address() as AddressInfo).port}/logout`,
    times,
    firstAtMs,
    fail(count) {
      failures = count
    },
    async close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

/** Registers the issuer and its relying parties. */
export async function register(client: Client, tallies: readonly Tally[]): Promise<void> {
  await client.putIssuer(ISSUER, { iss: ISS })
  for (const { clientId, uri } of tallies) {
    await client.putRelyingParty(ISSUER, clientId, {
      backchannel_logout_uri: uri,
      id_token_signed_response_alg: 'ES256',
      // A healthy RP must not wait for the long schedule after Curfew was killed.
      curfew: { retry_schedule_ms: [1_000, 1_000, 1_000, 1_000, 1_000, 1_000] },
    })
  }
}

export interface Load {
  /** Ids of the events that were answered with 202, with the time of the answer by `performance.now()`. */
  readonly accepted: ReadonlyMap<string, number>
  /** Subjects of the sessions that were answered with 202, by `sid`. No logout concerns them. */
  readonly sessions: ReadonlyMap<string, string>
  /** The number of answers by status, with `none` for posts without an answer. */
  readonly answers: ReadonlyMap<string, number>
  /** Resolves when `count` more events have been accepted. */
  progress(count: number, timeoutMs?: number): Promise<void>
  /** Stops posting. Resolves when all posts under way have been answered. */
  stop(): Promise<void>
}

export interface LoadOptions {
  readonly urls: readonly string[]
  readonly key: string
  readonly random: Random
  /** Counts deliveries. While many events are on their way to it, no new ones are posted. */
  readonly tally: Tally
  /** Most accepted events on their way. Default 400. */
  readonly underWayMax?: number
  /** Pause of each of the four senders after an answer, in milliseconds. Default 5. */
  readonly pauseMs?: number
}

const SENDERS = 4
/** Few enough that a later logout sometimes supersedes an earlier one, and enough that it seldom does. */
const USERS = 20_000
const ARRAY_MAX = 20
const SUBJECTS = 20
const SESSION_TTL_MS = 86_400_000
/** Sessions are posted this much less often than logouts. */
const SESSION_PAUSES = 10
const RETRY_PAUSE_MS = 20
const ANSWER_TIMEOUT_MS = 20_000

/**
 * Posts single events and arrays, and sessions beside them, as an IdP does. Refused posts are repeated with the same ids, at any
 * of the addresses.
 */
export function startLoad({ urls, key, random, tally, underWayMax = 400, pauseMs = 5 }: LoadOptions): Load {
  const accepted = new Map<string, number>()
  const sessions = new Map<string, string>()
  const answers = new Map<string, number>()
  let stopping = false

  const count = (answer: string) => answers.set(answer, (answers.get(answer) ?? 0) + 1)
  const newEvent = (): LogoutEventInput => ({
    id: uuidV7(new Date(), randomBytes(10)),
    iss: ISS,
    sub: `user-${random.integer(1, USERS)}`,
    ...(random.next() < 0.5 && { sid: `session-${random.integer(1, USERS)}` }),
    ...(random.next() < 0.2 && { lane: 'bulk' as const }),
  })

  async function post(path: string, body: unknown): Promise<Response | null> {
    try {
      const response = await fetch(`${random.pick(urls)}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
      })
      // Reads the body too: an answer that was cut off counts as none.
      return new Response(await response.text(), response)
    } catch {
      return null
    }
  }

  /** Posts until the answer is 202. Null: it was refused, or the load has ended. */
  async function postUntilAccepted(path: string, body: unknown): Promise<Response | null> {
    while (!stopping) {
      const response = await post(path, body)
      count(String(response?.status ?? 'none'))
      if (response?.status === 202) return response
      if (response !== null && response.status !== 503) return null
      await sleep(RETRY_PAUSE_MS)
    }
    return null
  }

  async function postEvents(): Promise<void> {
    const single = random.next() < 0.5
    const body = single ? newEvent() : Array.from({ length: random.integer(1, ARRAY_MAX) }, newEvent)
    const response = await postUntilAccepted('/v1/logout-events', body)
    if (response === null) return
    const atMs = performance.now()
    const answer = (await response.json()) as AcceptedOrRejected | readonly AcceptedOrRejected[]
    for (const each of [answer].flat()) if (each.status === 'accepted') accepted.set(each.id, atMs)
  }

  async function keepPostingSessions(): Promise<void> {
    while (!stopping) {
      const session: SessionInput = {
        iss: ISS,
        sub: `subject-${random.integer(1, SUBJECTS)}`,
        sid: randomUUID(),
        client_id: tally.clientId,
        expires_at: new Date(Date.now() + SESSION_TTL_MS).toISOString(),
      }
      if ((await postUntilAccepted('/v1/sessions', session)) !== null) sessions.set(session.sid, session.sub)
      await sleep(pauseMs * SESSION_PAUSES)
    }
  }

  async function keepPosting(): Promise<void> {
    while (!stopping) {
      if (accepted.size - tally.times.size < underWayMax) await postEvents()
      await sleep(pauseMs)
    }
  }

  const senders = [...Array.from({ length: SENDERS }, keepPosting), keepPostingSessions()]
  return {
    accepted,
    sessions,
    answers,
    async progress(more, timeoutMs = 20_000) {
      const goal = accepted.size + more
      await expect.poll(() => accepted.size, { timeout: timeoutMs, interval: 5 }).toBeGreaterThanOrEqual(goal)
    },
    async stop() {
      stopping = true
      await Promise.all(senders)
    },
  }
}
