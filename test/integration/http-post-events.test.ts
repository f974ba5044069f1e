import { randomUUID } from 'node:crypto'
import { LogoutEventInput } from '@curfew/contract'
import { EventLogUnavailableError, type LogRecord, RecordTooLargeError } from '@curfew/domain'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, ISS, openCurfew } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { wrongMembers } from './wrong-values.ts'

// Goal: Curfew accepts a posted event whole and delivers it once, or refuses it and names the member to fix.
// Method: the real service over HTTP. The test sees every record on its way into the event log.

let curfew: Curfew
let rp: RelyingParty
let appended: LogRecord[] = []
let unavailable = false

beforeAll(async () => {
  curfew = await openCurfew({
    wrapEventLog: (real) => ({
      ...real,
      async append(records) {
        if (records.some(({ value }) => Buffer.from(value).includes('too-large')))
          throw new RecordTooLargeError(
            'Kafka topic t takes no record of 9 bytes: raise its max.message.bytes',
          )
        if (unavailable) throw new EventLogUnavailableError('no broker answers')
        appended.push(...records)
        await real.append(records)
      },
    }),
  })
  rp = await openRelyingParty(curfew, { clientId: 'rp' })
})
afterAll(async () => {
  await curfew.stop()
  await rp.close()
})
beforeEach(() => {
  appended = []
  unavailable = false
})

interface ProblemBody {
  readonly status: number
  readonly title: string
  readonly detail: string
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[]
}

const GOOD = { iss: ISS, sub: 'alice' }
const post = (body: unknown, headers?: Readonly<Record<string, string>>) =>
  curfew.call('POST', '/v1/logout-events', body, headers)

/** Posts a body that must be refused. @returns the problem. */
async function refused(
  body: unknown,
  status = 400,
  headers?: Readonly<Record<string, string>>,
): Promise<ProblemBody> {
  const response = await post(body, headers)
  expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/)
  const problem = (await response.json()) as ProblemBody
  expect([response.status, problem.status]).toEqual([status, status])
  expect(appended).toEqual([])
  return problem
}

/** The ids of these events that the relying party received, in order. */
const receivedOf = (...ids: readonly (string | undefined)[]) =>
  rp.received.map(({ claims }) => claims.txn).filter((id) => ids.includes(id))

describe('an event', () => {
  test.each(wrongMembers(LogoutEventInput))('is refused when $member is $why', async ({ member, value }) => {
    const { errors } = await refused({ ...GOOD, [member]: value })
    expect(errors?.length).toBeGreaterThan(0)
    for (const { pointer } of errors ?? []) expect(pointer.split('/')[1]).toBe(member)
  })

  test.each([
    ['iss is missing', { sub: 'alice' }, '/iss'],
    ['sub and sid are missing', { iss: ISS }, '/sub'],
    ['scope is session without sid', { ...GOOD, scope: 'session' }, '/sid'],
    ['scope is subject without sub', { iss: ISS, sid: 'abc', scope: 'subject' }, '/sub'],
    ['scope is issuer with a sub', { iss: ISS, sub: 'alice', scope: 'issuer' }, '/sub'],
    ['iss has a query', { iss: `${ISS}?a=b`, sub: 'alice' }, '/iss'],
    ['iss has a fragment', { iss: `${ISS}#a`, sub: 'alice' }, '/iss'],
    [
      'occurred_at is a day that does not exist',
      { ...GOOD, occurred_at: '2026-02-30T00:00:00Z' },
      '/occurred_at',
    ],
    [
      'occurred_at is an hour that does not exist',
      { ...GOOD, occurred_at: '2026-02-20T25:00:00Z' },
      '/occurred_at',
    ],
    ['occurred_at lies in the future', { ...GOOD, occurred_at: '2999-01-01T00:00:00Z' }, '/occurred_at'],
    ['occurred_at is in the year 0', { ...GOOD, occurred_at: '0000-01-01T00:00:00Z' }, '/occurred_at'],
    [
      'occurred_at is in the year 0 by its offset',
      { ...GOOD, occurred_at: '0001-01-01T00:00:00+23:59' },
      '/occurred_at',
    ],
    ['a member is unknown', { ...GOOD, subject: 'alice' }, '/subject'],
    ['a member is a nonce, which a logout token never has', { ...GOOD, nonce: 'n' }, '/nonce'],
    ['the pointer of a member needs escapes', { ...GOOD, 'a/b~c': 1 }, '/a~1b~0c'],
  ])('is refused when %s', async (_why, body, pointer) => {
    const { errors } = await refused(body)
    expect(errors?.map((fault) => fault.pointer)).toEqual([pointer])
  })

  test('reaches the ledger with its longest and strangest values unchanged', async () => {
    const event = {
      id: randomUUID(),
      iss: ISS,
      sub: '👩🏽‍🚀"\\{}NULL\u00a0'.padEnd(255, 'é').slice(0, 250),
      sid: ' !"#$%&\'()*+,-./~'.padEnd(255, 'z'),
      scope: 'session' as const,
      reason: 'compromise' as const,
      initiator: 'x'.repeat(255),
      include_initiator: true,
      occurred_at: '2020-02-28T23:59:59.123456789-11:30',
      clients: Array.from({ length: 1_000 }, (_, index) => `c${index}`),
      lane: 'bulk' as const,
    }
    await curfew.client.postLogoutEvent(event)
    const seen = await curfew.client.getLogoutEvent(event.id, { wait: 10 })
    const { include_initiator: _, clients: __, ...same } = event
    expect(seen).toMatchObject({
      ...same,
      occurred_at: '2020-02-29T11:29:59.123Z',
      total: 0,
      status: 'settled',
    })
  })
})

describe('a body', () => {
  const bytes = (...parts: readonly (string | number[])[]) =>
    Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))))

  test.each([
    ['U+0000 in a value', '{"iss":"https://idp.example","sub":"a\\u0000b"}'],
    ['U+0000 in a name', '{"iss":"https://idp.example","sub":"ab","x\\u0000":1}'],
    ['half a surrogate pair', '{"iss":"https://idp.example","sub":"a\\ud800b"}'],
    ['a reversed surrogate pair', '{"iss":"https://idp.example","sub":"\\udc00\\ud800"}'],
    ['half a surrogate pair in a list', '{"iss":"https://idp.example","sub":"a","clients":["\\udfff"]}'],
    ['bytes that are not UTF-8', bytes('{"iss":"https://idp.example","sub":"', [0xc3, 0x28], '"}')],
    ['an overlong encoding', bytes('{"iss":"https://idp.example","sub":"', [0xc0, 0xaf], '"}')],
    ['a surrogate in UTF-8', bytes('{"iss":"https://idp.example","sub":"', [0xed, 0xa0, 0x80], '"}')],
    ['no content', ''],
    ['an unfinished object', '{"iss":"https://idp.example",'],
    ['two objects', '{"iss":"https://idp.example","sub":"a"}{}'],
    ['single quotes', "{'iss':'https://idp.example'}"],
    ['__proto__', '{"iss":"https://idp.example","sub":"a","__proto__":{"admin":true}}'],
    ['only a text', '"https://idp.example"'],
    ['only null', 'null'],
    ['only a number', '1'],
    ['endless nesting', `${'['.repeat(200_000)}${']'.repeat(200_000)}`],
    ['deep nesting in a member', `{"iss":${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)},"sub":"a"}`],
    ['an empty list', '[]'],
    ['1,001 events', JSON.stringify(Array.from({ length: 1_001 }, () => GOOD))],
    ['lists in a list', JSON.stringify([[GOOD]])],
  ])('with %s is refused', async (_what, body) => {
    const { detail } = await refused(body)
    expect(detail.length).toBeGreaterThan(10)
  })

  test('of 1 MiB is accepted, and of one byte more is refused', async () => {
    const sized = (size: number) => {
      const body = JSON.stringify(GOOD)
      return `${body}${' '.repeat(size - body.length)}`
    }
    await refused(sized(1_048_577), 413)
    expect((await post(sized(1_048_576))).status).toBe(202)
  })

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/cloudevents+json',
    'application/secevent+jwt',
  ])('of type %s is refused', async (type) => {
    await refused(JSON.stringify(GOOD), 415, { 'content-type': type })
  })

  test('with a content encoding is refused, because it could unpack to any size', async () => {
    await refused(JSON.stringify(GOOD), 415, { 'content-encoding': 'gzip' })
  })

  test('with a charset is accepted', async () => {
    const response = await post(JSON.stringify(GOOD), { 'content-type': 'application/json; charset=utf-8' })
    expect(response.status).toBe(202)
  })
})

describe('a list', () => {
  test('with invalid events is a 207: the valid events are delivered, and the others are named', async () => {
    const clients = ['rp']
    const good = [randomUUID(), randomUUID()]
    const response = await post([
      { ...GOOD, id: good[0], clients },
      { ...GOOD, sub: 7 },
      null,
      { ...GOOD, id: good[1], clients, sid: 'abc' },
    ])
    expect(response.status).toBe(207)
    const answer = (await response.json()) as readonly {
      status: string
      id?: string
      problem?: ProblemBody
    }[]
    expect(answer.map(({ status, id }) => [status, id])).toEqual([
      ['accepted', good[0]],
      ['rejected', undefined],
      ['rejected', undefined],
      ['accepted', good[1]],
    ])
    expect(answer[1]?.problem).toMatchObject({ status: 400, errors: [{ pointer: '/1/sub' }] })
    expect(answer[2]?.problem).toMatchObject({ status: 400, errors: [{ pointer: '/2' }] })
    expect(appended).toHaveLength(2)
    for (const id of good) {
      expect(await curfew.client.getLogoutEvent(id ?? '', { wait: 10 })).toMatchObject({ acknowledged: 1 })
    }
    expect(receivedOf(...good)).toHaveLength(2)
  })

  test('without a valid event is a 400 that points to every fault', async () => {
    const { errors } = await refused([{ iss: ISS }, { sub: 'alice' }])
    expect(errors?.map(({ pointer }) => pointer)).toEqual(['/0/sub', '/1/iss'])
  })

  test('of 1,000 events is accepted in order, and every event has an id of its own', async () => {
    const events = Array.from({ length: 1_000 }, (_, index) => ({
      ...GOOD,
      sub: `user-${index}`,
      clients: ['unknown'],
    }))
    const answer = await curfew.client.postLogoutEvents(events)
    expect(new Set(answer.map(({ id }) => id)).size).toBe(1_000)
    expect(appended.map(({ headers }) => headers.ce_id)).toEqual(answer.map(({ id }) => id))
  })
})

describe('INT-01: an event id', () => {
  test('that is posted again with the same content gets the same answer and one fan-out', async () => {
    const event = { ...GOOD, id: randomUUID(), clients: ['rp'] }
    const answers = await Promise.all([1, 2, 3, 4].map(() => curfew.client.postLogoutEvent(event)))
    // By this time it is planned, and ingest may have forgotten it. The repeated post still adds nothing.
    await curfew.client.getLogoutEvent(event.id, { wait: 10 })
    answers.push(await curfew.client.postLogoutEvent({ ...event, scope: 'subject', lane: 'interactive' }))
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1)
    // The log keeps the order of a key, so this event is planned after the repeats.
    const { id } = await curfew.client.postLogoutEvent({ ...GOOD, clients: ['rp'] })
    await curfew.client.getLogoutEvent(id, { wait: 10 })
    expect(receivedOf(event.id, id)).toEqual([event.id, id])
  })

  test.each([
    ['sub', { sub: 'mallory' }],
    ['sid', { sid: 'abc', scope: 'subject' as const }],
    ['clients', { clients: ['other'] }],
    ['lane', { lane: 'bulk' as const }],
    ['occurred_at', { occurred_at: '2026-11-20T00:00:00Z' }],
  ])(
    'that is posted again with another %s gets a 409, and the first event stays',
    async (_member, change) => {
      const id = randomUUID()
      await curfew.client.postLogoutEvent({ ...GOOD, id })
      appended = []
      const { errors } = await refused({ ...GOOD, id, ...change }, 409)
      expect(errors).toEqual([{ pointer: '/id', detail: expect.any(String) }])
      expect(await curfew.client.getLogoutEvent(id, { wait: 10 })).toMatchObject({
        sub: 'alice',
        lane: 'interactive',
      })
    },
  )

  test('that occurs twice in a list with different content is accepted once and refused once', async () => {
    const id = randomUUID()
    const response = await post([
      { ...GOOD, id },
      { ...GOOD, id, sub: 'bob' },
    ])
    expect(response.status).toBe(207)
    expect(await response.json()).toMatchObject([
      { status: 'accepted', id },
      { status: 'rejected', problem: { status: 409 } },
    ])
    expect(appended).toHaveLength(1)
  })

  test('is the same in upper and lower case', async () => {
    const id = randomUUID()
    const accepted = await curfew.client.postLogoutEvent({ ...GOOD, id: id.toUpperCase() })
    expect(accepted.id).toBe(id)
    expect(await curfew.client.postLogoutEvent({ ...GOOD, id })).toEqual(accepted)
    appended = []
    await refused({ ...GOOD, id, sub: 'bob' }, 409)
    expect(await curfew.client.getLogoutEvent(id.toUpperCase(), { wait: 10 })).toMatchObject({ id })
  })
})

describe('while the event log is unavailable, a post', () => {
  test('gets a 503 with Retry-After and is accepted in no part, and succeeds afterwards', async () => {
    const id = randomUUID()
    unavailable = true
    for (const body of [
      { ...GOOD, id },
      [
        { ...GOOD, id },
        { ...GOOD, sub: 7 },
      ],
    ]) {
      const response = await post(body)
      expect([response.status, response.headers.get('retry-after')]).toEqual([503, '2'])
      expect(await response.json()).toMatchObject({
        status: 503,
        trace_id: expect.stringMatching(/^[0-9a-f]{32}$/),
      })
    }
    expect((await curfew.call('GET', `/v1/logout-events/${id}`)).status).toBe(404)
    unavailable = false
    // The refused post did not take the id, so the event may be corrected.
    expect((await post({ ...GOOD, id, sub: 'bob' })).status).toBe(202)
    expect(await curfew.client.getLogoutEvent(id, { wait: 10 })).toMatchObject({
      sub: 'bob',
      status: 'settled',
    })
  })

  test('gets a 503 that names the setting if its record is too large, and other posts are accepted', async () => {
    const bodies = [
      GOOD,
      { ...GOOD, sub: 'too-large' },
      { ...GOOD, sub: 'bob' },
      [GOOD, { ...GOOD, sub: 'too-large' }],
    ]
    const responses = await Promise.all(bodies.map((body) => post(body)))
    expect(responses.map(({ status }) => status)).toEqual([202, 503, 202, 503])
    for (const response of [responses[1], responses[3]]) {
      expect(response?.headers.get('retry-after')).toBe('60')
      expect(await response?.json()).toMatchObject({
        detail: expect.stringContaining(
          'Kafka topic t takes no record of 9 bytes: raise its max.message.bytes. ',
        ),
      })
    }
  })

  test('gets a 503 if PostgreSQL itself is unreachable', async () => {
    await using own = await openCurfew({ workers: 0, appendTimeoutMs: 300 })
    await own.gate.shut()
    const id = randomUUID()
    const response = await own.call('POST', '/v1/logout-events', { ...GOOD, id })
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '2'])
    expect(JSON.stringify(await response.json())).not.toMatch(/ECONN|postgres|127\.0\.0\.1/i)
    await own.gate.open()
    expect((await own.call('POST', '/v1/logout-events', { ...GOOD, id })).status).toBe(202)
    const { rows } = await own.db.query('select key from log_records')
    expect(rows).toHaveLength(1)
  })
})
