import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: every time in a request is read by one grammar, RFC 3339 section 5.6, and a bad one is a 400 that names its member.
// Method: each place that takes a time, with texts that other parsers read differently. `instant.test.ts` tests the grammar itself.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
})
afterAll(() => curfew.stop())

const IN_AN_HOUR = new Date(Date.now() + 3_600_000).toISOString()
const session = { iss: ISS, sub: 'alice', sid: 's1', client_id: 'mail' }
let made = 0

/** The places that take a time: the request that has it, and the pointer that a fault names. */
const PLACES: readonly (readonly [pointer: string, send: (time: string) => Promise<Response>])[] = [
  ['/since', (time) => get('/v1/deliveries', { since: time })],
  ['/until', (time) => get('/v1/deliveries', { until: time })],
  ['/from', (time) => get('/v1/sla', { issuer: ISSUER, from: time, to: '2026-01-31T13:00:00Z' })],
  ['/to', (time) => get('/v1/sla', { issuer: ISSUER, to: time })],
  ['/from', (time) => get('/v1/dead-letters', { from: time })],
  ['/to', (time) => get('/v1/dead-letters/summary', { to: time })],
  ['/filter/from', (time) => curfew.call('POST', '/v1/dead-letters/replay', { filter: { from: time } })],
  [
    '/occurred_at',
    (time) => curfew.call('POST', '/v1/logout-events', { iss: ISS, sub: 'a', occurred_at: time }),
  ],
  [
    '/started_at',
    (time) => curfew.call('POST', '/v1/sessions', { ...session, started_at: time, expires_at: IN_AN_HOUR }),
  ],
]
const FUTURE: readonly (readonly [pointer: string, send: (time: string) => Promise<Response>])[] = [
  ['/expires_at', (time) => curfew.call('POST', '/v1/sessions', { ...session, expires_at: time })],
  [
    '/expires_at',
    (time) =>
      curfew.call('POST', '/v1/api-keys', {
        name: `key ${++made}`,
        scopes: ['clients:read'],
        expires_at: time,
      }),
  ],
]

function get(path: string, query: Record<string, string>): Promise<Response> {
  return curfew.call('GET', `${path}?${new URLSearchParams(query)}`)
}

describe.each(PLACES)('a time at %s', (pointer, send) => {
  test.each([
    '2026-01-31t12:00:00z',
    '2026-01-31T12:00:00.1234567890123Z',
    '2026-01-31T12:00:00+23:59',
    '2026-01-31T12:00:00-00:00',
    '1998-12-31T23:59:60Z',
  ])('is taken as %s, or refused for its meaning only', async (time) => {
    const response = await send(time)
    const text = await response.text()
    expect(text).not.toContain('RFC 3339')
    expect(text).not.toContain('not a time that exists')
  })

  test.each([
    '2026-02-30T12:00:00Z',
    '2026-01-31 12:00:00Z',
    '2026-01-31T24:00:00Z',
    '2026-01-31T12:00:00+24:00',
    '2026-01-31T12:00Z',
    '2026-01-31',
    '1998-12-30T23:59:60Z',
    'yesterday',
  ])('is refused as %s, by a 400 that names it', (time) => refuses(send, time, pointer))
})

describe.each(FUTURE)('a future time at %s', (pointer, send) => {
  test('is taken in lower case, with an offset, and with a long fraction', async () => {
    for (const time of [
      IN_AN_HOUR.toLowerCase(),
      IN_AN_HOUR.replace('Z', '-00:00'),
      IN_AN_HOUR.replace('Z', '999999999999Z'),
    ]) {
      expect((await send(time)).status, time).toBeLessThan(300)
    }
  })

  test('is refused if it does not exist', () => refuses(send, '2027-02-29T12:00:00Z', pointer))
})

async function refuses(
  send: (time: string) => Promise<Response>,
  time: string,
  pointer: string,
): Promise<void> {
  const response = await send(time)
  expect(response.status).toBe(400)
  const { errors } = (await response.json()) as { errors: readonly { pointer: string }[] }
  expect(errors.map((fault) => fault.pointer)).toEqual([pointer])
}

test('a time in a query whose plus sign became a space is refused with the way to write it', async () => {
  const response = await curfew.call('GET', '/v1/deliveries?since=2026-01-31T12:00:00+02:00')
  expect(response.status).toBe(400)
  expect(((await response.json()) as { detail: string }).detail).toBe(
    'since must be an RFC 3339 time such as 2026-01-31T12:00:00Z: write + as %2B.',
  )
})

test('a bound of a list beyond the years of the ledger counts as the first or the last of them', async () => {
  await curfew.client.putRelyingParty(ISSUER, 'mail', { backchannel_logout_uri: 'https://127.0.0.1:1/x' })
  const bounds = { since: '0000-01-01T00:00:00Z', until: '9999-12-31T23:59:59-23:59' }
  expect((await get('/v1/deliveries', bounds)).status).toBe(200)
  expect((await get('/v1/dead-letters', { from: bounds.since, to: bounds.until })).status).toBe(200)
})
