import { randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { AcceptedOrRejected, Client, LogoutEventInput } from '@curfew/client'
import { uuidV7 } from '@curfew/domain'
import { expect } from 'vitest'

// What every chaos test does: posts without pause while things are killed, counts at the relying parties, and asks at the
// end whether every event that was answered with 202 arrived, and whether the ledger says so.

export const ISSUER = 'main'
export const ISS = 'https://idp.example'

/** Numbers that look random and are the same for the same seed. */
export interface Random {
  readonly seed: number
  /** Uniform in [0, 1). */
  next(): number
  /** Uniform, both ends included. */
  integer(min: number, max: number): number
  pick<Item>(items: readonly Item[]): Item
  shuffled<Item>(items: readonly Item[]): Item[]
}

/** Of CHAOS_SEED where that is set, to see a failure again as far as time allows; printed in any case. */
export function openRandom(what: string): Random {
  const seed = Number(process.env.CHAOS_SEED ?? randomInt(2 ** 31))
  process.stderr.write(`${what}: CHAOS_SEED=${seed}\n`)
  return createRandom(seed)
}

export function createRandom(seed: number): Random {
  // mulberry32
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const integer = (min: number, max: number) => min + Math.floor(next() * (max - min + 1))
  return {
    seed,
    next,
    integer,
    pick(items) {
      const item = items[integer(0, items.length - 1)]
      if (item === undefined) throw new Error('nothing to pick from')
      return item
    },
    shuffled: (items) =>
      items
        .map((item) => ({ item, order: next() }))
        .sort((a, b) => a.order - b.order)
        .map(({ item }) => item),
  }
}

/** A relying party that acknowledges everything, and counts how often it was told of each event. */
export interface Tally {
  readonly clientId: string
  readonly uri: string
  readonly times: ReadonlyMap<string, number>
  /** Answers 503 to the next `count` requests. */
  fail(count: number): void
  close(): Promise<void>
}

export async function openTally(clientId: string): Promise<Tally> {
  const times = new Map<string, number>()
  let failures = 0
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const token = new URLSearchParams(body).get('logout_token') ?? ''
    const payload = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8')
    const { txn } = JSON.parse(payload) as { readonly txn: string }
    times.set(txn, (times.get(txn) ?? 0) + 1)
    response.writeHead(failures > 0 ? 503 : 200).end()
    failures = Math.max(failures - 1, 0)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    clientId,
    uri: `http://127.0.0.1:${(server.address() as AddressInfo).port}/logout`,
    times,
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
      // A healthy RP whose Curfew was killed must not wait for the long schedule.
      curfew: { retry_schedule_ms: [1_000, 1_000, 1_000, 1_000, 1_000, 1_000] },
    })
  }
}

export interface Load {
  /** Ids of the events that were answered with 202. */
  readonly accepted: ReadonlySet<string>
  /** Answers by status, and `none` for posts that had no answer. */
  readonly answers: ReadonlyMap<string, number>
  /** Resolves when `count` more events have been accepted. */
  progress(count: number, timeoutMs?: number): Promise<void>
  /** Posts no more. Resolves when what is on its way has been answered. */
  stop(): Promise<void>
}

export interface LoadOptions {
  readonly urls: readonly string[]
  readonly key: string
  readonly random: Random
  /** Who counts: while much is on its way to it, nothing new is posted. */
  readonly tally: Tally
  /** Most accepted events on their way. Default 400. */
  readonly underWayMax?: number
  /** Of each of the four that post, after an answer. Default 5. */
  readonly pauseMs?: number
}

const POSTERS = 4
const ARRAY_MAX = 20
const RETRY_PAUSE_MS = 20
const ANSWER_TIMEOUT_MS = 20_000

/**
 * Posts single events and arrays as an IdP does: what was not accepted is posted again under the same ids, wherever
 * somebody listens.
 */
export function startLoad({ urls, key, random, tally, underWayMax = 400, pauseMs = 5 }: LoadOptions): Load {
  const accepted = new Set<string>()
  const answers = new Map<string, number>()
  let stopping = false

  const count = (answer: string) => answers.set(answer, (answers.get(answer) ?? 0) + 1)
  const newEvent = (): LogoutEventInput => ({
    id: uuidV7(new Date(), randomBytes(10)),
    iss: ISS,
    sub: `user-${random.integer(1, 300)}`,
    ...(random.next() < 0.5 && { sid: `session-${random.integer(1, 300)}` }),
    ...(random.next() < 0.2 && { lane: 'bulk' as const }),
  })

  async function post(body: LogoutEventInput | readonly LogoutEventInput[]): Promise<Response | null> {
    try {
      const response = await fetch(`${random.pick(urls)}/v1/logout-events`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
      })
      // With its body: an answer that was cut off is none.
      return new Response(await response.text(), response)
    } catch {
      return null
    }
  }

  async function postUntilAccepted(): Promise<void> {
    const single = random.next() < 0.5
    const body = single ? newEvent() : Array.from({ length: random.integer(1, ARRAY_MAX) }, newEvent)
    while (!stopping) {
      const response = await post(body)
      count(String(response?.status ?? 'none'))
      if (response?.status === 202) {
        const answer = (await response.json()) as AcceptedOrRejected | readonly AcceptedOrRejected[]
        for (const each of [answer].flat()) if (each.status === 'accepted') accepted.add(each.id)
        return
      }
      if (response !== null && response.status !== 503) return
      await sleep(RETRY_PAUSE_MS)
    }
  }

  async function keepPosting(): Promise<void> {
    while (!stopping) {
      if (accepted.size - tally.times.size < underWayMax) await postUntilAccepted()
      await sleep(pauseMs)
    }
  }

  const posters = Array.from({ length: POSTERS }, keepPosting)
  return {
    accepted,
    answers,
    async progress(more, timeoutMs = 20_000) {
      const goal = accepted.size + more
      await expect.poll(() => accepted.size, { timeout: timeoutMs, interval: 5 }).toBeGreaterThanOrEqual(goal)
    },
    async stop() {
      stopping = true
      await Promise.all(posters)
    },
  }
}

/**
 * Waits until every accepted event has reached every relying party and the ledger has all of its deliveries as
 * acknowledged; says in a line what was counted.
 */
export async function expectNothingLost(
  what: string,
  { load, tallies, client }: { load: Load; tallies: readonly Tally[]; client: Client },
  timeoutMs = 40_000,
): Promise<void> {
  const { accepted } = load
  const lost = () => tallies.flatMap(({ times }) => [...accepted].filter((id) => !times.has(id)))
  try {
    await expect.poll(() => lost().length, { timeout: timeoutMs, interval: 50 }).toBe(0)
  } catch (error) {
    throw new Error(`${what}: ${await describeLost(client, lost())}`, { cause: error })
  }
  await expect.poll(() => unsettled(client), { timeout: timeoutMs, interval: 200 }).toEqual([])

  const acknowledged = new Map<string, number>()
  let cursor: string | null = null
  do {
    const page = await client.listDeliveries({
      state: 'acknowledged',
      limit: 500,
      ...(cursor !== null && { cursor }),
    })
    for (const { event_id } of page.items) acknowledged.set(event_id, (acknowledged.get(event_id) ?? 0) + 1)
    cursor = page.next_cursor
  } while (cursor !== null)
  const wrong = [...accepted].filter((id) => acknowledged.get(id) !== tallies.length)
  expect(wrong, `${what}: accepted events that the ledger does not have as acknowledged`).toEqual([])

  const received = tallies.map(({ times }) => [...times.values()].reduce((sum, each) => sum + each, 0))
  const duplicates = tallies.reduce((sum, { times }, index) => sum + (received[index] ?? 0) - times.size, 0)
  const answers = [...load.answers].map(([status, number]) => `${number} × ${status}`).join(', ')
  process.stderr.write(
    `${what}: ${accepted.size} accepted (answers: ${answers}), 0 lost, ${duplicates} duplicates\n`,
  )
  const expected = ['202', '503', 'none']
  expect([...load.answers.keys()].filter((answer) => !expected.includes(answer))).toEqual([])
}

/** How the ledger has what did not arrive, by number. */
async function describeLost(client: Client, lost: readonly string[]): Promise<string> {
  const found = new Map<string, number>()
  for (const id of new Set(lost)) {
    const { items } = await client.listDeliveries({ event_id: id })
    const how = items.map(({ state }) => state).join(' and ') || 'not planned'
    found.set(how, (found.get(how) ?? 0) + 1)
  }
  return `not told everybody: ${[...found].map(([how, events]) => `${events} events are ${how}`).join(', ')}`
}

/** States that deliveries are in and should not be. */
async function unsettled(client: Client): Promise<readonly string[]> {
  const found = await Promise.all(
    (['pending', 'in_flight', 'dead_lettered'] as const).map(async (state) => {
      const { items } = await client.listDeliveries({ state, limit: 1 })
      return items.map(({ state, dead_letter_reason }) => dead_letter_reason ?? state)
    }),
  )
  return found.flat()
}

/** A port of loopback that was free a moment ago, for those who must come back at the same address. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
