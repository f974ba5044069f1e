import { createSessionQuotaJob } from '@curfew/bookkeeper'
import { EVERYTHING, type Issuer } from '@curfew/domain'
import { ENDLESS_GAP, enforceSessionQuotas, noteBacklogGaps } from '@curfew/ledger'
import { createLog, createMetrics } from '@curfew/runtime'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: a credential pays for the work that it causes, and an issuer keeps to its quotas. Neither blocks the logout of a user.
// Method: the real services over HTTP and a real database, with low limits.

const IN_AN_HOUR = () => new Date(Date.now() + 3_600_000).toISOString()
let made = 0
const sessionOf = (sub: string, more: object = {}) => {
  made += 1
  return { iss: ISS, sub, sid: `sid-${made}`, client_id: 'mail', expires_at: IN_AN_HOUR(), ...more }
}
const array = <Item>(length: number, item: () => Item) => Array.from({ length }, item)

interface Problem {
  readonly title: string
  readonly detail: string
}

function callerWith(curfew: Curfew, key: string) {
  return async (method: string, path: string, body: unknown): Promise<Response> =>
    curfew.call(method, path, body, { authorization: `Bearer ${key}` })
}

describe('a request is charged for its work', () => {
  let curfew: Curfew
  beforeAll(async () => {
    curfew = await openCurfew({ workers: 0, requestsPerSecond: 1 })
  })
  afterAll(() => curfew.stop())

  test('13 arrays of 1,000 sessions use up the budget for sessions, and nothing of the budget for logouts', async () => {
    const post = callerWith(curfew, curfew.keyFor('sessions:write', 'events:write'))
    const statuses: number[] = []
    let refused: Response | null = null
    for (let request = 0; request < 13; request++) {
      const answer = await post(
        'POST',
        '/v1/sessions',
        array(1_000, () => sessionOf('alice')),
      )
      statuses.push(answer.status)
      if (answer.status === 429) refused = answer
    }
    expect(statuses[0]).toBe(202)
    // The burst is 20 units, and 1 unit follows per second. An array costs 250.
    expect(statuses.filter((status) => status === 202)).toHaveLength(1)
    expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(100)
    expect(await refused?.json()).toMatchObject({
      detail: expect.stringMatching(/budget for sessions\. This request costs \d+/),
    })
    expect((await post('POST', '/v1/logout-events', { iss: ISS, sub: 'alice' })).status).toBe(202)
  })

  test('bulk logouts use up a budget of their own, and interactive logouts in the same array are accepted', async () => {
    const post = callerWith(curfew, curfew.keyFor('events:write'))
    const bulk = () => ({ iss: ISS, sub: 'alice', lane: 'bulk' })
    const statuses: number[] = []
    for (let request = 0; request < 6; request++)
      statuses.push((await post('POST', '/v1/logout-events', array(1_000, bulk))).status)
    expect(statuses[0]).toBe(202)
    expect(statuses.at(-1)).toBe(429)
    const mixed = await post('POST', '/v1/logout-events', [bulk(), { iss: ISS, sub: 'bob' }])
    const elements = (await mixed.json()) as { status: string; problem?: { status: number } }[]
    expect([mixed.status, elements.map(({ status }) => status)]).toEqual([207, ['rejected', 'accepted']])
    expect(elements[0]?.problem?.status).toBe(429)
  })

  test('a mass logout that is posted one by one leaves the budget of interactive logouts intact', async () => {
    const { key } = await curfew.client.createApiKey({
      ...{ name: 'one-by-one', scopes: ['events:write'], requests_per_second: 1 },
    })
    const post = callerWith(curfew, key)
    const statuses: number[] = []
    for (let request = 0; request < 25; request++) {
      const bulk = { iss: ISS, sub: 'alice', lane: 'bulk' }
      statuses.push((await post('POST', '/v1/logout-events', bulk)).status)
    }
    expect([statuses[0], statuses.at(-1)]).toEqual([202, 429])
    expect((await post('POST', '/v1/logout-events', { iss: ISS, sub: 'bob' })).status).toBe(202)
  })

  test('an array of interactive logouts is accepted whole, and delays the next logout by seconds at most', async () => {
    const post = callerWith(curfew, curfew.keyFor('events:write'))
    const logouts = array(1_000, () => ({ iss: ISS, sub: 'alice' }))
    const taken = await post('POST', '/v1/logout-events', logouts)
    expect([taken.status, ((await taken.json()) as unknown[]).length]).toEqual([202, 1_000])
    const answer = await post('POST', '/v1/logout-events', { iss: ISS, sub: 'bob' })
    expect(answer.status).toBe(429)
    expect(Number(answer.headers.get('retry-after'))).toBeLessThanOrEqual(6)
  })

  test('a body without a length is charged by the bytes that arrive', async () => {
    const key = curfew.keyFor('clients:write', 'admin')
    await curfew.client.putIssuer(ISSUER, { iss: ISS })
    const put = async () =>
      fetch(new URL(`/v1/issuers/${ISSUER}/relying-parties/big`, curfew.url), {
        method: 'PUT',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: new Blob([JSON.stringify({ note: 'x'.repeat(900_000) })]).stream(),
        duplex: 'half',
      } as RequestInit)
    // Each request costs 110 units.
    expect((await put()).status).toBe(201)
    expect((await put()).status).toBe(429)
  })
})

describe('a backlog', () => {
  test('blocks sessions and bulk logouts, but no interactive logout', async () => {
    await using curfew = await openCurfew({ workers: 0, backlogMax: 20 })
    const post = (path: string, body: unknown) => curfew.call('POST', path, body)
    const bulk = { iss: ISS, sub: 'alice', lane: 'bulk' }
    await post(
      '/v1/logout-events',
      array(30, () => bulk),
    )
    await post(
      '/v1/sessions',
      array(15, () => sessionOf('alice')),
    )
    await post(
      '/v1/logout-events',
      array(30, () => ({ iss: ISS, sub: 'bob' })),
    )
    await eventually(async () => expect((await post('/v1/logout-events', bulk)).status).toBe(429))
    // Records of other lanes that lie in between do not count.
    expect((await post('/v1/sessions', sessionOf('alice'))).status).toBe(202)
    await post(
      '/v1/sessions',
      array(10, () => sessionOf('alice')),
    )
    const refused = await eventually(async () => {
      const answer = await post('/v1/sessions', sessionOf('alice'))
      expect(answer.status).toBe(429)
      return answer
    })
    expect(refused.headers.get('retry-after')).toBe('30')
    expect((await post('/v1/logout-events', { iss: ISS, sub: 'bob' })).status).toBe(202)
    expect((await post('/v1/logout-events', { iss: ISS, scope: 'issuer' })).status).toBe(202)
    await curfew.db.query("delete from log_records where lane = 'bulk'")
    await eventually(async () => expect((await post('/v1/logout-events', bulk)).status).toBe(202))
  })

  test('of one issuer makes logouts of another go to every client that may have a session', async () => {
    await using curfew = await openCurfew({ workers: 0, backlogMax: 20 })
    const ownClients = ['mail', 'wiki']
    await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
    for (const client of ownClients)
      await curfew.client.putRelyingParty(ISSUER, client, {
        backchannel_logout_uri: `https://127.0.0.1:1/${client}`,
      })
    const post = (path: string, body: unknown) => curfew.call('POST', path, body)
    const plannedClients = async (sub: string) => {
      const answer = await post('/v1/logout-events', { iss: ISS, sub })
      const { id } = (await answer.json()) as { id: string }
      return eventually(async () => {
        const event = await curfew.call('GET', `/v1/logout-events/${id}`)
        expect(event.status).toBe(200)
        const { deliveries } = (await event.json()) as { deliveries: { client_id: string }[] }
        return deliveries.map(({ client_id }) => client_id).toSorted()
      })
    }
    const first = await curfew.startWorker()
    for (const sub of ['alice', 'bob']) await post('/v1/sessions', sessionOf(sub, { client_id: 'wiki' }))
    await eventually(async () => {
      const { rows } = await curfew.db.query<{ count: number }>('select count(*) as count from sessions')
      expect(rows[0]?.count).toBe(2)
    })
    expect(await plannedClients('alice')).toEqual(['wiki'])
    await first.stop()

    const foreign = () => sessionOf('carol', { iss: 'https://other.example' })
    await post('/v1/sessions', array(30, foreign))
    await eventually(async () => expect((await post('/v1/sessions', foreign())).status).toBe(429))
    // The ledger does not know of the gap yet. So the first session is accepted, and the refusals begin behind it.
    expect((await post('/v1/sessions', sessionOf('alice'))).status).toBe(202)
    await eventually(async () => {
      expect((await post('/v1/sessions', sessionOf('bob', { client_id: 'none' }))).status).toBe(429)
    })
    expect((await post('/v1/sessions', sessionOf('bob'))).status).toBe(429)
    await curfew.startWorker()
    expect(await plannedClients('alice')).toEqual(ownClients)
    expect(await plannedClients('bob')).toEqual(ownClients)
    // Once the last refused session is over, the index has every session again.
    await curfew.db.query("update session_issuers set gaps_until = now() - interval '2 minutes'")
    await enforceSessionQuotas(curfew.db, { quota: 1_000 })
    expect(await plannedClients('bob')).toEqual(['wiki'])
  })

  test('keeps a new gap even if the bookkeeper is about to clear an older one', async () => {
    await using curfew = await openCurfew({ workers: 0 })
    await curfew.db.query(
      "insert into session_issuers (iss, sessions_counted, gaps_until) values ($1, 0, now() - interval '2 minutes')",
      [ISS],
    )
    const until = new Date(Date.now() + 3_600_000)
    await curfew.db.withConnection(async (connection) => {
      await connection.query('begin')
      await connection.query('select from registry_revision for update')
      const round = enforceSessionQuotas(curfew.db, { quota: 1_000 })
      await eventually(async () => {
        const { rows } = await curfew.db.query<{ count: number }>(
          "select count(*) as count from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        )
        expect(rows[0]?.count).toBe(1)
      })
      expect(await noteBacklogGaps(curfew.db, { iss: ISS as Issuer, until })).toEqual(until)
      await connection.query('commit')
      await round
    })
    const { rows } = await curfew.db.query<{ until: Date }>('select gaps_until as until from session_issuers')
    expect(rows).toEqual([{ until }])
  })
})

describe('an issuer over its quota of sessions', () => {
  let curfew: Curfew
  beforeAll(async () => {
    curfew = await openCurfew()
    await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
    for (const client of ['mail', 'wiki'])
      await curfew.client.putRelyingParty(ISSUER, client, {
        backchannel_logout_uri: `https://127.0.0.1:1/${client}`,
      })
  })
  afterAll(() => curfew.stop())

  const count = async () =>
    (await curfew.db.query<{ count: number }>('select count(*) as count from sessions')).rows[0]?.count ?? 0
  const enforce = (quota: number) => enforceSessionQuotas(curfew.db, { quota })
  /** The clients that a new logout of alice is planned for. */
  async function plannedClients(): Promise<readonly string[]> {
    const answer = await curfew.call('POST', '/v1/logout-events', { iss: ISS, sub: 'alice' })
    const { id } = (await answer.json()) as { id: string }
    return eventually(async () => {
      const event = await curfew.call('GET', `/v1/logout-events/${id}`)
      expect(event.status).toBe(200)
      const { deliveries } = (await event.json()) as { deliveries: { client_id: string }[] }
      return [...new Set(deliveries.map(({ client_id }) => client_id))].toSorted()
    })
  }

  test('is planned as partial, its new sessions are refused, and operators are notified', async () => {
    for (let n = 0; n < 4; n++) await curfew.call('POST', '/v1/sessions', sessionOf('alice'))
    await eventually(async () => expect(await count()).toBe(4))
    expect((await enforce(4))?.over).toEqual([])
    expect(await plannedClients()).toEqual(['mail'])

    expect((await enforce(3))?.over).toEqual([{ iss: ISS, issuer: ISSUER, sessions: 4, quota: 3 }])
    expect((await enforce(3))?.over).toEqual([])
    const { rows } = await curfew.db.query<{ type: string; issuer: string; data: object }>(
      "select type, issuer, data from notifications where type = 'session.over_quota'",
    )
    expect(rows).toEqual([
      {
        type: 'session.over_quota',
        issuer: ISSUER,
        data: expect.objectContaining({ iss: ISS, sessions: 4, quota: 3 }),
      },
    ])
    expect(await plannedClients()).toEqual(['mail', 'wiki'])
    const metrics = createMetrics()
    const log = createLog({ service: 'test', level: 'silent' })
    await createSessionQuotaJob({ db: curfew.db, sessionsMax: 2, log, metrics }).round()
    expect((await metrics.expose()).body).toContain(`curfew_session_quota_ratio{issuer="${ISSUER}"} 2`)

    const refused = await eventually(async () => {
      const answer = await curfew.call('POST', '/v1/sessions', sessionOf('carol'))
      expect(answer.status).toBe(429)
      return answer
    })
    expect(((await refused.json()) as Problem).title).toBe('Session quota exceeded')
    // The ledger knew of the gap before the refusal.
    const gaps = await curfew.db.query<{ gaps_until: Date }>('select gaps_until from session_issuers')
    expect(gaps.rows[0]?.gaps_until.getTime()).toBeGreaterThan(Date.now() + 3_600_000)
    const other = await curfew.call('POST', '/v1/sessions', [
      sessionOf('carol'),
      sessionOf('carol', { iss: 'https://other.example' }),
    ])
    expect(other.status).toBe(207)
  })

  test('stays partial after a session without an end was refused, until an operator says that the index is complete', async () => {
    const endless = () => sessionOf('carol', { expires_at: null })
    // The first one is accepted, because the ledger does not know of its gap.
    await curfew.call('POST', '/v1/sessions', endless())
    await eventually(async () =>
      expect((await curfew.call('POST', '/v1/sessions', endless())).status).toBe(429),
    )
    const gaps = async () =>
      (
        await curfew.db.query<{ gap: Date | null }>(
          'select gaps_until as gap from session_issuers where iss = $1',
          [ISS],
        )
      ).rows
    expect(await gaps()).toEqual([{ gap: ENDLESS_GAP }])
    const complete = () => curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
    const partial = () => curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'partial' })
    await partial()
    await complete()
    // Sessions are still being refused.
    expect(await gaps()).toEqual([{ gap: ENDLESS_GAP }])
    await curfew.db.query('update session_issuers set over_quota_since = null')
    await complete()
    expect(await gaps()).toEqual([{ gap: ENDLESS_GAP }])
    expect(await plannedClients()).toEqual(['mail', 'wiki'])
    await partial()
    await complete()
    expect(await gaps()).toEqual([{ gap: null }])
    await curfew.db.query("delete from sessions where sub = 'carol'")
    await enforce(3)
  })

  test('stays partial until the last refused session is over', async () => {
    await curfew.db.query("delete from sessions where sub <> 'alice'")
    await enforce(3)
    await curfew.db.query('delete from sessions where sid <> (select min(sid) from sessions)')
    expect((await enforce(3))?.within).toMatchObject([{ iss: ISS }])
    await eventually(async () =>
      expect((await curfew.call('POST', '/v1/sessions', sessionOf('alice'))).status).toBe(202),
    )
    expect(await plannedClients()).toEqual(['mail', 'wiki'])
    await curfew.db.query("update session_issuers set gaps_until = now() - interval '2 minutes'")
    await enforce(3)
    expect(await plannedClients()).toEqual(['mail'])
  })

  test('may have a quota of its own, which only an unbound admin changes', async () => {
    const path = `/v1/issuers/${ISSUER}`
    const body = { iss: ISS, session_index: 'complete' }
    const bound = curfew.keyBoundTo({ kind: 'issuer', issuer: ISSUER as never, iss: ISS as never }, 'admin')
    const writer = curfew.keyBoundTo(EVERYTHING, 'clients:write')
    const put = (quotas: object | null, key?: string) =>
      curfew.call(
        'PUT',
        path,
        { ...body, ...(quotas !== null && { quotas }) },
        key === undefined ? {} : { authorization: `Bearer ${key}` },
      )
    for (const key of [bound, writer]) expect((await put({ sessions: 9 }, key)).status).toBe(403)
    const set = await put({ sessions: 1, relying_parties: 2 })
    expect([set.status, await set.json()]).toMatchObject([
      200,
      { quotas: { sessions: 1, relying_parties: 2 } },
    ])
    // A request may repeat the quotas that it read, and omitted quotas stay.
    for (const quotas of [null, { sessions: 1 }, { sessions: 1, relying_parties: 2 }]) {
      const kept = await put(quotas, bound)
      expect([kept.status, await kept.json()]).toMatchObject([
        200,
        { quotas: { sessions: 1, relying_parties: 2 } },
      ])
    }
    const third = await curfew.call('PUT', `${path}/relying-parties/third`, {})
    expect([third.status, ((await third.json()) as Problem).detail]).toEqual([
      429,
      expect.stringMatching(/may have 2 relying parties and has 2\. This request would register 1 more/),
    ])
    expect((await curfew.call('PUT', `${path}/relying-parties/mail`, { client_name: 'Mail' })).status).toBe(
      200,
    )
    expect(await (await put({ relying_parties: null })).json()).toMatchObject({
      quotas: { sessions: 1, relying_parties: null },
    })
    expect((await curfew.call('PUT', `${path}/relying-parties/third`, {})).status).toBe(201)
  })
})

describe('imports', () => {
  const line = (n: number) =>
    JSON.stringify({
      client_id: `c-${n}`,
      backchannel_logout_uri: `https://c-${n}.rp.example/`,
      note: 'x'.repeat(500),
    })
  const NDJSON = { 'content-type': 'application/x-ndjson' }

  /** Starts an import that sends the first byte of its body and nothing more. */
  function begin(curfew: Curfew, issuer: string) {
    const leaving = new AbortController()
    const begun = Promise.withResolvers<void>()
    const answer = fetch(new URL(`/v1/issuers/${issuer}/relying-parties/import`, curfew.url), {
      method: 'POST',
      headers: { ...NDJSON, authorization: `Bearer ${curfew.adminKey}` },
      body: new ReadableStream({
        pull(controller) {
          controller.enqueue(new TextEncoder().encode('{'))
          begun.resolve()
          return new Promise(() => undefined)
        },
      }),
      duplex: 'half',
      signal: leaving.signal,
    } as RequestInit).catch(() => null)
    return { begun: begun.promise, answer, leave: () => leaving.abort() }
  }
  async function withIssuers(count: number) {
    const curfew = await openCurfew({ workers: 0, allowedNetworks: [] })
    for (let n = 0; n < count; n++) await curfew.client.putIssuer(`i-${n}`, { iss: `https://i-${n}.example` })
    return curfew
  }
  const post = (curfew: Curfew, n: number) =>
    curfew.call('POST', `/v1/issuers/i-${n}/relying-parties/import`, line(1), NDJSON)

  test('run one at a time per issuer, and a stalled import blocks no other issuer', async () => {
    await using curfew = await withIssuers(2)
    const broken = begin(curfew, 'i-0')
    await broken.begun
    await eventually(async () => expect((await post(curfew, 0)).status).toBe(429))
    expect((await post(curfew, 0)).headers.get('retry-after')).toBe('5')
    expect((await post(curfew, 1)).status).toBe(200)
    broken.leave()
    await broken.answer
    await eventually(async () => expect((await post(curfew, 0)).status).toBe(200))
  })

  test('are limited in number over all issuers', async () => {
    await using curfew = await withIssuers(4)
    const begun = [0, 1, 2].map((n) => begin(curfew, `i-${n}`))
    await Promise.all(begun.map((each) => each.begun))
    await eventually(async () => expect((await post(curfew, 3)).status).toBe(429))
    for (const each of begun) each.leave()
    await eventually(async () => expect((await post(curfew, 3)).status).toBe(200))
  })

  test('lose their place when their body stalls', async () => {
    await using curfew = await withIssuers(1)
    // A refusal before the body is read must have no effect when the time is up.
    expect((await curfew.call('POST', '/v1/issuers/i-0/relying-parties/import', {})).status).toBe(415)
    const broken = begin(curfew, 'i-0')
    expect((await broken.answer)?.status).toBe(408)
    await eventually(async () => expect((await post(curfew, 0)).status).toBe(200))
  })

  test('change nothing if they exceed the quota', async () => {
    await using curfew = await openCurfew({ workers: 0, allowedNetworks: [], relyingPartiesMax: 3 })
    await curfew.client.putIssuer(ISSUER, { iss: ISS })
    const post = (lines: readonly string[], query = '') =>
      curfew.call('POST', `/v1/issuers/${ISSUER}/relying-parties/import${query}`, lines.join('\n'), NDJSON)
    expect((await post([line(1), line(2)])).status).toBe(200)
    for (const query of ['', '?dry_run=true']) {
      const over = await post([line(2), line(3), line(4)], query)
      expect([over.status, ((await over.json()) as Problem).detail]).toEqual([
        429,
        expect.stringMatching(/may have 3 relying parties and has 2\. This request would register 2 more/),
      ])
    }
    expect((await post([line(1), line(2), line(3)])).status).toBe(200)
    expect((await curfew.call('GET', `/v1/issuers/${ISSUER}/relying-parties/c-4`)).status).toBe(404)
  })
})
