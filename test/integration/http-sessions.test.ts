import { SessionInput } from '@curfew/contract'
import { EventLogUnavailableError, type LogRecord } from '@curfew/domain'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew } from '../support/curfew.ts'
import { wrongMembers } from './wrong-values.ts'

// Goal: a posted session is accepted whole or refused with the member to fix, without PostgreSQL. Support staff can read it back.
// Method: the real services over HTTP. The test sees every record on its way into the event log.

const HOUR_MS = 3_600_000
let curfew: Curfew
let appended: LogRecord[] = []
let unavailable = false

beforeAll(async () => {
  curfew = await openCurfew({
    wrapEventLog: (real) => ({
      ...real,
      async append(records) {
        if (unavailable) throw new EventLogUnavailableError('no broker answers')
        appended.push(...records)
        await real.append(records)
      },
    }),
  })
})
afterAll(() => curfew.stop())
beforeEach(async () => {
  appended = []
  unavailable = false
  // With few rows in many partitions, this is faster than truncating the tables.
  for (const table of ['sessions', 'session_ids', 'quarantined_records'])
    await curfew.db.query(`delete from ${table}`)
})

const hence = (hours: number) => new Date(Date.now() + hours * HOUR_MS).toISOString()
const GOOD = { iss: ISS, sub: 'alice', sid: 's1', client_id: 'mail', expires_at: hence(8) }

interface Problem {
  readonly status: number
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[]
}

async function refused(body: unknown, status = 400): Promise<Problem> {
  const response = await curfew.call('POST', '/v1/sessions', body)
  expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/)
  expect(response.status).toBe(status)
  expect(appended).toEqual([])
  return (await response.json()) as Problem
}

const list = async (by: { sub: string } | { sid: string }) =>
  (await curfew.client.listSessions({ iss: ISS, ...by })).items
const clientsOf = async (by: { sub: string } | { sid: string }) =>
  (await list(by)).map(({ sid, client_id }) => `${sid} ${client_id}`)

describe('a session', () => {
  test.each(wrongMembers(SessionInput))('is refused when $member is $why', async ({ member, value }) => {
    const { errors } = await refused({ ...GOOD, [member]: value })
    for (const { pointer } of errors ?? []) expect(pointer.split('/')[1]).toBe(member)
    expect(errors?.length).toBeGreaterThan(0)
  })

  test.each<[string, object, readonly string[]]>([
    ['sub is missing', { sub: undefined }, ['/sub']],
    ['expires_at is missing', { expires_at: undefined }, ['/expires_at']],
    ['a member is unknown', { subject: 'alice' }, ['/subject']],
    ['it starts on a day that does not exist', { started_at: '2026-02-30T00:00:00Z' }, ['/started_at']],
    ['it starts in the future', { started_at: hence(1) }, ['/started_at']],
    ['it starts in the year 0', { started_at: '0001-01-01T00:00:00+23:59' }, ['/started_at']],
    ['it ends on a day that does not exist', { expires_at: '2026-11-31T00:00:00Z' }, ['/expires_at']],
    ['it ends when it starts', { started_at: hence(-1), expires_at: hence(-1) }, ['/expires_at']],
    ['it ends before it is posted, which is its start', { expires_at: hence(-1) }, ['/expires_at']],
    ['it lasts longer than a cookie may', { expires_at: hence(24 * 401) }, ['/expires_at']],
    [
      'both times are wrong',
      { started_at: hence(1), expires_at: '2026-02-30T00:00:00Z' },
      ['/started_at', '/expires_at'],
    ],
  ])('is refused when %s', async (_why, change, pointers) => {
    const { errors } = await refused({ ...GOOD, ...change })
    expect(errors?.map(({ pointer }) => pointer)).toEqual(pointers)
  })
})

test('a posted session can be read by support staff until it ends', async () => {
  const started_at = hence(-1)
  const answer = await curfew.client.postSession({
    ...GOOD,
    started_at,
    device: 'phone',
    email: 'alice@example.com',
  })
  expect(answer).toEqual({ status: 'accepted', links: { session: expect.any(String) } })
  const session = { ...GOOD, device: 'phone', email: 'alice@example.com', started_at }
  const expected = { ...session, logout: null, overlong_since: null }
  await eventually(async () => expect(await list({ sub: 'alice' })).toEqual([expected]))
  const linked = await curfew.call('GET', answer.links.session)
  expect(await linked.json()).toEqual({ items: [expected], next_cursor: null })

  await curfew.client.postSessions([
    { ...GOOD, client_id: 'wiki' },
    { ...GOOD, sid: 's2' },
  ])
  await eventually(async () =>
    expect(await clientsOf({ sub: 'alice' })).toEqual(['s1 mail', 's1 wiki', 's2 mail']),
  )
  await curfew.client.endSession({ iss: ISS, sid: 's1', client_id: 'mail' })
  await eventually(async () => expect(await clientsOf({ sid: 's1' })).toEqual(['s1 wiki']))
  await curfew.client.endSession({ iss: ISS, sid: 's1' })
  await eventually(async () => expect(await clientsOf({ sub: 'alice' })).toEqual(['s2 mail']))
})

test('a session without an end is kept until it is ended, and may get an end', async () => {
  await curfew.client.postSessions([
    { ...GOOD, expires_at: null },
    { ...GOOD, sid: 's2', expires_at: null },
  ])
  const ends = async () => (await list({ sub: 'alice' })).map(({ sid, expires_at }) => [sid, expires_at])
  const both = [
    ['s1', null],
    ['s2', null],
  ]
  await eventually(async () => expect(await ends()).toEqual(both))
  const record = JSON.parse(new TextDecoder().decode(appended[0]?.value))
  expect(record).toMatchObject({ sid: 's1', expires_at: null })
  await curfew.client.postSession(GOOD)
  await eventually(async () => expect(await ends()).toEqual([['s1', GOOD.expires_at], both[1]]))
  await curfew.client.endSession({ iss: ISS, sid: 's2' })
  await eventually(async () => expect(await ends()).toEqual([['s1', GOOD.expires_at]]))
})

test('an unknown parameter is refused, because it would have no effect', async () => {
  const response = await curfew.call('POST', '/v1/sessions?dry_run=true', GOOD)
  expect(response.status).toBe(400)
  expect(((await response.json()) as Problem).errors).toMatchObject([{ pointer: '/dry_run' }])
  expect(appended).toEqual([])
})

test('a session that has already expired is dropped', async () => {
  await curfew.client.postSessions([
    { ...GOOD, started_at: hence(-9), expires_at: hence(-1) },
    { ...GOOD, sid: 's2' },
  ])
  await eventually(async () => expect(await clientsOf({ sub: 'alice' })).toEqual(['s2 mail']))
  const { rows } = await curfew.db.query('select from sessions')
  expect(rows).toHaveLength(1)
})

describe('sessions in the event log', () => {
  test('have one key for start and end, and CloudEvents attributes', async () => {
    await curfew.client.postSession(GOOD)
    await curfew.client.endSession({ iss: ISS, sid: 's1' })
    const [start, end] = appended
    expect(start).toMatchObject({
      lane: 'sessions',
      key: JSON.stringify([ISS, 's1']),
      headers: { ce_type: 'curfew.session-started.v1', ce_source: ISS, ce_specversion: '1.0' },
    })
    expect(end).toMatchObject({
      lane: 'sessions',
      key: start?.key,
      headers: { ce_type: 'curfew.session-ended.v1', traceparent: expect.stringMatching(/^00-/) },
    })
    expect(start?.headers.ce_id).not.toBe(end?.headers.ce_id)
  })

  test('are refused with a 503 and Retry-After while the log is unavailable', async () => {
    unavailable = true
    const calls = [
      curfew.call('POST', '/v1/sessions', GOOD),
      curfew.call('POST', '/v1/sessions', [GOOD]),
      curfew.call('DELETE', `/v1/sessions?${new URLSearchParams({ iss: ISS, sid: 's1' })}`),
    ]
    for (const response of await Promise.all(calls)) {
      expect(response.status).toBe(503)
      expect(response.headers.get('retry-after')).toMatch(/^\d+$/)
    }
  })

  test('are quarantined one by one if they cannot be read', async () => {
    await curfew.client.postSession(GOOD)
    const [good] = appended
    if (good === undefined) throw new Error('nothing was appended')
    const change = (to: object, headers = {}): LogRecord => ({
      ...good,
      value: new TextEncoder().encode(
        JSON.stringify({ ...JSON.parse(new TextDecoder().decode(good.value)), ...to }),
      ),
      headers: { ...good.headers, ...headers },
    })
    await curfew.eventLog.append([
      change({ sid: 5 }),
      change({}, { ce_type: 'curfew.logout-event.v1' }),
      // PostgreSQL has no year 0.
      change({ started_at: '0000-01-01T00:00:00.000Z', sub: 'bob' }),
      change({ expires_at: '2026-02-30T00:00:00Z' }),
      change({ sub: 'carol' }),
    ])
    await eventually(async () => expect(await clientsOf({ sub: 'carol' })).toEqual(['s1 mail']))
    await eventually(async () => {
      const { rows } = await curfew.db.query('select lane, reason from quarantined_records order by id')
      expect(rows).toHaveLength(4)
      expect(rows.every(({ lane }) => lane === 'sessions')).toBe(true)
      expect(rows.map(({ reason }) => String(reason)).toSorted()).toEqual([
        '/expires_at is not a time that exists',
        expect.stringMatching(/^\/sid /),
        expect.stringMatching(/^ce_type is curfew.logout-event.v1/),
        expect.stringMatching(/^the ledger refused it/),
      ])
    })
    expect(await clientsOf({ sub: 'bob' })).toEqual([])
  })

  test('are accepted without PostgreSQL and without a worker', async () => {
    const own = await openCurfew({
      workers: 0,
      wrapEventLog: (real) => ({ ...real, append: async () => undefined }),
    })
    await own.gate.shut()
    try {
      expect((await own.call('POST', '/v1/sessions', GOOD)).status).toBe(202)
    } finally {
      await own.gate.open()
      await own.stop()
    }
  })
})

describe('an array', () => {
  const post = async (body: unknown) => {
    const response = await curfew.call('POST', '/v1/sessions', body)
    return { status: response.status, body: await response.json() }
  }

  test('is answered element by element', async () => {
    expect(await post([GOOD, { ...GOOD, client_id: 'wiki' }])).toMatchObject({
      status: 202,
      body: [{ status: 'accepted' }, { status: 'accepted' }],
    })
    const mixed = await post([{ ...GOOD, sid: 5 }, GOOD])
    expect(mixed).toMatchObject({
      status: 207,
      body: [{ status: 'rejected', problem: { errors: [{ pointer: '/0/sid' }] } }, { status: 'accepted' }],
    })
    expect(appended).toHaveLength(3)
  })

  test('without a valid session, or of a wrong length, is refused whole', async () => {
    expect((await refused([{ ...GOOD, sid: '' }, {}])).errors?.map(({ pointer }) => pointer)).toContain(
      '/0/sid',
    )
    await refused([])
    await refused(Array.from({ length: 1_001 }, () => GOOD))
  })
})

describe('reading sessions', () => {
  test('returns every session once, a page at a time', async () => {
    // Another subject, because earlier posts may be applied only now.
    const starts = Array.from({ length: 5 }, (_, n) => ({
      ...GOOD,
      sub: 'paula',
      sid: `p${n % 3}`,
      client_id: `c${n}`,
    }))
    await curfew.client.postSessions(starts)
    await eventually(async () => expect(await clientsOf({ sub: 'paula' })).toHaveLength(5))
    for (const by of [{ sub: 'paula' }, { sid: 'p0' }]) {
      const seen: string[] = []
      for (let cursor: string | null = ''; cursor !== null; ) {
        const at = cursor === '' ? {} : { cursor }
        const page = await curfew.client.listSessions({ iss: ISS, ...by, limit: 1, ...at })
        seen.push(...page.items.map(({ sid, client_id }) => `${sid} ${client_id}`))
        cursor = page.next_cursor
      }
      expect(seen).toEqual(await clientsOf(by))
    }
  })

  test.each([
    ['no iss', 'sub=alice'],
    ['neither sub nor sid', `iss=${ISS}`],
    ['both sub and sid', `iss=${ISS}&sub=alice&sid=s1`],
    ['a cursor of another list', `iss=${ISS}&sub=alice&cursor=${Buffer.from('["a"]').toString('base64url')}`],
    ['an invalid cursor', `iss=${ISS}&sub=alice&cursor=abc`],
  ])('with %s is a 400', async (_what, query) => {
    expect((await curfew.call('GET', `/v1/sessions?${query}`)).status).toBe(400)
  })

  test('needs another scope than writing', async () => {
    const as = async (key: string, method: string, path: string, body?: unknown) =>
      (await curfew.call(method, path, body, { authorization: `Bearer ${key}` })).status
    const reader = curfew.keyFor('ledger:read')
    const writer = curfew.keyFor('sessions:write')
    const path = `/v1/sessions?iss=${encodeURIComponent(ISS)}&sid=s1`
    expect([await as(reader, 'GET', path), await as(writer, 'GET', path)]).toEqual([200, 403])
    expect([await as(writer, 'DELETE', path), await as(reader, 'DELETE', path)]).toEqual([202, 403])
    expect(await as(writer, 'POST', '/v1/sessions', GOOD)).toBe(202)
    expect(await as(curfew.keyFor('events:write'), 'POST', '/v1/sessions', GOOD)).toBe(403)
  })
})
