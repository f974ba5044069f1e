import { randomUUID } from 'node:crypto'
import type { Delivery, DeliveryWithAttempts } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew, storedId } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'

// Goal: a caller who asks about a logout gets a true and complete answer, no later than the wait that it asked for.
// Method: real deliveries, read through every filter and in pages of every size.

let curfew: Curfew
let rps: readonly RelyingParty[]
let eventIds: readonly string[]
let between: Date
const EVENTS = 12

beforeAll(async () => {
  curfew = await openCurfew()
  rps = await Promise.all([
    openRelyingParty(curfew, { clientId: 'good' }),
    openRelyingParty(curfew, { clientId: 'refuses', curfew: { retry_schedule_ms: [] } }),
    openRelyingParty(curfew, {
      clientId: 'needs-sid',
      metadata: { backchannel_logout_session_required: true },
    }),
  ])
  rps[1]?.behave({ status: 400, body: '{"error":"invalid_request","error_description":"clock\\u0007skew"}' })
  const ids: string[] = []
  for (let number = 0; number < EVENTS; number++) {
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: `user-${number}` })
    ids.push(id)
    if (number === EVENTS / 2 - 1) {
      await attempted(ids)
      between = new Date(Date.now() + 1)
      await eventually(() => expect(Date.now()).toBeGreaterThan(between.getTime()))
    }
  }
  await attempted(ids)
  eventIds = ids
})
afterAll(async () => {
  await curfew.stop()
  await Promise.all(rps.map((rp) => rp.close()))
})

/** Waits until every delivery of these events was attempted. A refused delivery is then pending. */
async function attempted(ids: readonly string[]): Promise<void> {
  await eventually(async () => {
    const { rows } = await curfew.db.query(
      "select from deliveries where event_id = any($1::uuid[]) and (state = 'acknowledged' or attempts > 0)",
      [ids.map((id) => storedId(id))],
    )
    expect(rows).toHaveLength(ids.length * 3)
  })
}

const client = () => curfew.client
const list = async (query: string) => {
  const response = await curfew.call('GET', `/v1/deliveries?${query}`)
  expect(response.status).toBe(200)
  return (await response.json()) as { items: readonly Delivery[]; next_cursor: string | null }
}

describe('an event', () => {
  test('that is not planned is a 404 with Retry-After, and an impossible id is a plain 404', async () => {
    const unknown = await curfew.call('GET', `/v1/logout-events/${randomUUID()}`)
    expect([unknown.status, unknown.headers.get('retry-after')]).toEqual([404, '1'])
    const none = await curfew.call('GET', '/v1/logout-events/yesterday')
    expect([none.status, none.headers.get('retry-after')]).toEqual([404, null])
  })

  test('that is not planned yet can be waited for, and is answered once it is settled', async () => {
    await using own = await openCurfew({ workers: 0 })
    await using rp = await openRelyingParty(own, { clientId: 'rp' })
    const { id, links } = await own.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
    expect((await own.call('GET', links.self)).status).toBe(404)
    const waiting = own.client.getLogoutEvent(id, { wait: 30 })
    await own.startWorker()
    expect(await waiting).toMatchObject({ status: 'settled', total: 1, acknowledged: 1 })
    expect(rp.received).toHaveLength(1)
  })

  test('is answered in progress when the wait ends while a relying party hangs', async () => {
    await using rp = await openRelyingParty(curfew, { clientId: 'hangs', curfew: { timeout_ms: 5_000 } })
    rp.behave('hang')
    const { id } = await client().postLogoutEvent({ iss: ISS, sub: 'zoe', clients: ['hangs', 'good'] })
    await rp.told(1)
    const startedMs = performance.now()
    const event = await client().getLogoutEvent(id, { wait: 1 })
    expect(performance.now() - startedMs).toBeGreaterThan(900)
    expect(event).toMatchObject({
      status: 'in_progress',
      acknowledged: 1,
      total: 2,
      settled_at: null,
      elapsed_ms: null,
    })
    expect(event.deliveries.map(({ client_id, state }) => [client_id, state])).toEqual([
      ['good', 'acknowledged'],
      ['hangs', 'in_flight'],
    ])
    // Closing the relying party ends the request, so the test does not wait for its timeout.
    await rp.close()
  })

  test.each(['wait=31', 'wait=-1', 'wait=x', 'wait=1.5', 'wait=', 'wait=1&wait=2'])(
    'refuses the query %s',
    async (query) => {
      expect((await curfew.call('GET', `/v1/logout-events/${eventIds[0]}?${query}`)).status).toBe(400)
    },
  )

  test('shows the state of each delivery', async () => {
    const event = await client().getLogoutEvent(eventIds[0] ?? '')
    expect(event).toMatchObject({
      plan_basis: 'registered',
      total: 3,
      acknowledged: 1,
      status: 'in_progress',
    })
    expect(
      event.deliveries.map(({ client_id, state, dead_letter_reason, level }) => [
        client_id,
        state,
        dead_letter_reason,
        level,
      ]),
    ).toEqual([
      ['good', 'acknowledged', null, 'done'],
      ['needs-sid', 'dead_lettered', 'sid_required', null],
      ['refuses', 'pending', null, null],
    ])
  })
})

describe('a delivery', () => {
  test('shows every attempt with the error text of the relying party, made safe to display', async () => {
    const [pending] = (await list('client_id=refuses&limit=1')).items
    const full = await client().getDelivery(pending?.id ?? '')
    const attempts: DeliveryWithAttempts['attempts'] = [
      {
        number: 1,
        started_at: expect.stringMatching(/Z$/),
        duration_ms: expect.any(Number),
        outcome: 'refused',
        status: 400,
        error_class: 'http_400',
        error: 'invalid_request',
        error_description: 'clock skew',
        location: null,
        jti: expect.stringMatching(/^[0-9a-f-]{36}$/),
        note: null,
      },
    ]
    const fix = expect.stringMatching(/clock.* Curfew repeats the delivery by itself\.$/)
    expect(full).toEqual({ ...pending, fix, attempts })
    expect(full.fix).not.toMatch(/replay/i)
    for (const clientId of ['good', 'needs-sid']) {
      const [settled] = (await list(`client_id=${clientId}&limit=1`)).items
      expect((await client().getDelivery(settled?.id ?? '')).fix).toBeNull()
    }
    expect(rps[1]?.received.map(({ claims }) => claims.jti)).toContain(full.attempts[0]?.jti)
  })

  test('is a 404 for an unknown id', async () => {
    for (const id of [randomUUID(), 'x', '%27']) {
      expect((await curfew.call('GET', `/v1/deliveries/${id}`)).status).toBe(404)
    }
  })
})

describe('the list', () => {
  const idsOf = (items: readonly Delivery[]) => items.map(({ id }) => id)

  async function pages(query: string, limit: number): Promise<readonly Delivery[]> {
    const seen: Delivery[] = []
    let cursor: string | null = null
    do {
      const page: Awaited<ReturnType<typeof list>> = await list(
        `${query}&limit=${limit}${cursor === null ? '' : `&cursor=${cursor}`}`,
      )
      seen.push(...page.items)
      if (page.next_cursor !== null) expect(page.items).toHaveLength(limit)
      cursor = page.next_cursor
    } while (cursor !== null)
    return seen
  }

  test.each([1, 5, 12, 35, 36, 500])(
    'has no gaps and no repeats in pages of %i, the latest first',
    async (limit) => {
      const until = new Date().toISOString()
      const all = await pages(
        `until=${until}&state=acknowledged&client_id=good&since=2020-01-01T00:00:00Z`,
        limit,
      )
      const mine = all.filter(({ event_id }) => eventIds.includes(event_id))
      expect(mine.map(({ event_id }) => event_id)).toEqual(eventIds.toReversed())
      expect(new Set(idsOf(all)).size).toBe(all.length)
    },
  )

  test('keeps its pages stable while new deliveries arrive', async () => {
    const first = await list('client_id=good&limit=5')
    const { id } = await client().postLogoutEvent({ iss: ISS, sub: 'late', clients: ['good'] })
    await client().getLogoutEvent(id, { wait: 10 })
    const second = await list(`client_id=good&limit=5&cursor=${first.next_cursor}`)
    const both = [...idsOf(first.items), ...idsOf(second.items)]
    expect(new Set(both).size).toBe(10)
    expect(second.items.map(({ event_id }) => event_id)).not.toContain(id)
  })

  test('applies each filter', async () => {
    const all = (await list('limit=500')).items.filter(({ event_id }) => eventIds.includes(event_id))
    expect(all).toHaveLength(EVENTS * 3)
    const check = async (query: string, wanted: (delivery: Delivery) => boolean) => {
      const { items } = await list(`limit=500&${query}`)
      expect(idsOf(items.filter(({ event_id }) => eventIds.includes(event_id)))).toEqual(
        idsOf(all.filter(wanted)),
      )
      return items
    }
    await check('state=pending', ({ state }) => state === 'pending')
    await check('state=dead_lettered', ({ client_id }) => client_id === 'needs-sid')
    await check('client_id=good', ({ client_id }) => client_id === 'good')
    await check(`event_id=${eventIds[3]}`, ({ event_id }) => event_id === eventIds[3])
    await check(
      `event_id=${eventIds[3]?.toUpperCase()}&client_id=good`,
      ({ event_id, client_id }) => event_id === eventIds[3] && client_id === 'good',
    )
    await check(`issuer=${ISSUER}`, () => true)
    expect(await check('issuer=another', () => false)).toEqual([])
    expect(await check('client_id=unknown', () => false)).toEqual([])
    expect(await check('state=lapsed', () => false)).toEqual([])
    const half = eventIds.slice(0, EVENTS / 2)
    await check(`until=${between.toISOString()}`, ({ event_id }) => half.includes(event_id))
    await check(`since=${between.toISOString()}`, ({ event_id }) => !half.includes(event_id))
    await check(
      `since=${encodeURIComponent(between.toISOString().replace('Z', '+00:00'))}`,
      ({ event_id }) => !half.includes(event_id),
    )
  })

  test.each([
    'cursor=x',
    'cursor=%00',
    `cursor=${Buffer.from('not a uuid').toString('base64url')}`,
    `cursor=${Buffer.from("' or 1=1").toString('base64url')}`,
    'cursor=',
    'limit=0',
    'limit=501',
    'state=lost',
    'state=',
    'event_id=x',
    'since=yesterday',
    'since=1',
    'since=',
    'since=-271821-04-20T00:00:00Z',
    'since=%2B275760-09-13T00:00:00Z',
    'until=2026-13-01T00:00:00Z',
    'until=2026-02-30T00:00:00Z',
    'unknown=1',
    'client_id=',
  ])('refuses %s and names the wrong parameter', async (query) => {
    const response = await curfew.call('GET', `/v1/deliveries?${query}`)
    const problem = (await response.json()) as { errors?: readonly { pointer: string }[] }
    expect(response.status).toBe(400)
    // U+0000 is refused in any query, before the parameters are checked.
    const named = query.includes('%00') ? [] : [`/${query.split('=', 1)[0]}`]
    expect([...new Set(problem.errors?.map(({ pointer }) => pointer))]).toEqual(named)
  })
})
