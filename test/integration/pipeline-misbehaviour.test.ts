import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { LogoutEventStatus } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew, storedId } from '../support/curfew.ts'
import { type Manner, openRelyingParty } from '../support/relying-party.ts'

// Goal: whatever a relying party answers, its delivery gets the outcome of the table in the design, and no other delivery suffers.
// Method: relying parties on real sockets that misbehave in different ways.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew()
})
afterAll(() => curfew.stop())

const post = async (clients: readonly string[], sub = 'alice') =>
  (await curfew.client.postLogoutEvent({ iss: ISS, sub, clients: [...clients] })).id
const settled = (id: string) => curfew.client.getLogoutEvent(id, { wait: 20 })
const attemptsOf = async (event: LogoutEventStatus) =>
  (await curfew.client.getDelivery(event.deliveries[0]?.id ?? '')).attempts

let number = 0
const newId = () => `rp-${++number}`

describe('an answer', () => {
  /** With the two quick retries a delivery has three attempts. There is no schedule, so it ends after them. */
  const cases: readonly (readonly [
    what: string,
    manner: Manner,
    state: string,
    outcome: string,
    errorClass: string | null,
    attempts: number,
  ])[] = [
    ['200', { status: 200 }, 'acknowledged', 'acknowledged', null, 1],
    ['204', { status: 204 }, 'acknowledged', 'acknowledged', null, 1],
    ['sent byte by byte', 'byte by byte', 'acknowledged', 'acknowledged', null, 1],
    ['after an unasked 100 Continue', '100 and large headers', 'acknowledged', 'acknowledged', null, 1],
    ['with an endless body', 'endless body', 'acknowledged', 'acknowledged', null, 1],
    ['503', { status: 503 }, 'attempts_exhausted', 'unavailable', 'http_503', 3],
    ['429, without quick retries', { status: 429 }, 'attempts_exhausted', 'unavailable', 'http_429', 1],
    ['that is not HTTP', 'garbage', 'attempts_exhausted', 'unavailable', 'invalid_response', 3],
    ['replaced by a reset', 'reset', 'attempts_exhausted', 'unavailable', 'connection_reset', 3],
    ['that never comes', 'hang', 'attempts_exhausted', 'unavailable', 'timeout', 3],
  ]
  test.concurrent.each(cases)('%s', async (_what, manner, state, outcome, errorClass, attempts) => {
    await using rp = await openRelyingParty(curfew, {
      clientId: newId(),
      curfew: { retry_schedule_ms: [], timeout_ms: manner === 'hang' ? 300 : 10_000 },
    })
    rp.behave(manner)
    const event = await settled(await post([rp.clientId]))
    expect(event.deliveries).toMatchObject([
      state === 'acknowledged'
        ? { state, level: 'done', attempt_count: attempts }
        : { state: 'dead_lettered', dead_letter_reason: state, attempt_count: attempts },
    ])
    const made = await attemptsOf(event)
    expect(made.map((attempt) => [attempt.outcome, attempt.error_class])).toEqual(
      Array.from({ length: attempts }, () => [outcome, errorClass]),
    )
    expect(rp.received).toHaveLength(attempts)
    expect(new Set(rp.received.map(({ claims }) => claims.jti)).size).toBe(attempts)
  })

  test.each([400, 401, 403, 404, 405, 413, 415, 418, 501, 201, 202, 206, 304])(
    '%i counts as a refusal, and uses no step of the retry schedule',
    async (status) => {
      await using rp = await openRelyingParty(curfew, {
        clientId: newId(),
        curfew: { retry_schedule_ms: [] },
      })
      rp.behave({ status, ...(status !== 304 && { body: '{"error":"x"}' }) })
      const id = await post([rp.clientId])
      await eventually(async () => {
        const { rows } = await curfew.db.query(
          'select state, attempts, retries, refusals from deliveries where event_id = $1',
          [storedId(id)],
        )
        expect(rows).toEqual([{ state: 'pending', attempts: 1, retries: 0, refusals: 1 }])
      })
      const outcome = status === 400 || status === 501 ? 'refused' : 'misconfigured'
      expect(await attemptsOf(await curfew.client.getLogoutEvent(id))).toMatchObject([{ status, outcome }])
      expect(rp.received).toHaveLength(1)
    },
  )

  test.each([301, 302, 303, 307, 308])(
    '%i is not followed: the attempt shows the target of the redirect, which gets no request',
    async (status) => {
      let visits = 0
      const elsewhere = createServer((_request, response) => {
        visits++
        response.end()
      })
      const { promise: listening, resolve } = Promise.withResolvers<void>()
      elsewhere.listen(0, '127.0.0.1', resolve)
      await listening
      try {
        await using rp = await openRelyingParty(curfew, { clientId: newId() })
        const location = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/`
        rp.behave({ status, headers: { location: `${location}login?next=s3cret` } })
        const id = await post([rp.clientId])
        await eventually(async () => {
          expect(await attemptsOf(await curfew.client.getLogoutEvent(id))).toMatchObject([
            { status, outcome: 'misconfigured', location: `${location}login?next=…` },
          ])
        })
        expect(visits).toBe(0)
      } finally {
        elsewhere.close()
      }
    },
  )

  test('410 dead-letters the delivery and disables the endpoint with a reason, until its owner registers it again', async () => {
    await using rp = await openRelyingParty(curfew, { clientId: newId() })
    rp.behave({ status: 410 })
    const first = await settled(await post([rp.clientId]))
    expect(first.deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: 'endpoint_gone' }])
    await eventually(async () => {
      const { status } = await curfew.client.getRelyingParty(ISSUER, rp.clientId)
      expect(status).toMatchObject({ enabled: false, disabled_reason: expect.stringContaining('410') })
    })
    const second = await settled(await post([rp.clientId]))
    expect(second.deliveries).toMatchObject([
      { state: 'dead_lettered', dead_letter_reason: 'binding_disabled' },
    ])
    expect(rp.received).toHaveLength(1)
    rp.behave(null)
    await curfew.client.putRelyingParty(ISSUER, rp.clientId, {
      backchannel_logout_uri: rp.uri,
      id_token_signed_response_alg: 'ES256',
    })
    expect(await settled(await post([rp.clientId]))).toMatchObject({ acknowledged: 1 })
  })
})

describe('a relying party that is unavailable', () => {
  test('for longer than the quick retries is notified when it is available again', async () => {
    await using rp = await openRelyingParty(curfew, {
      clientId: newId(),
      curfew: { retry_schedule_ms: [1_000, 1_000, 1_000, 1_000, 1_000, 1_000] },
    })
    await rp.goDown()
    const id = await post([rp.clientId])
    await eventually(async () => {
      const { rows } = await curfew.db.query('select retries, attempts from deliveries where event_id = $1', [
        storedId(id),
      ])
      expect(rows).toEqual([{ retries: 1, attempts: 3 }])
    })
    await rp.comeUp()
    const event = await settled(id)
    expect(event.deliveries).toMatchObject([{ state: 'acknowledged', attempt_count: 4 }])
    const made = await attemptsOf(event)
    expect(made.map(({ number, error_class }) => [number, error_class])).toEqual([
      [1, 'connection_refused'],
      [2, 'connection_refused'],
      [3, 'connection_refused'],
      [4, null],
    ])
    expect(rp.received.map(({ verification }) => verification.ok)).toEqual([true])
  })
})

describe('a relying party that hangs', () => {
  test('does not delay the others', async () => {
    await using hanging = await openRelyingParty(curfew, {
      clientId: newId(),
      curfew: { timeout_ms: 20_000, concurrency: 4 },
    })
    await using healthy = await openRelyingParty(curfew, { clientId: newId() })
    hanging.behave('hang')
    // More than it has slots, and more than its binding queue holds.
    const events = Array.from({ length: 600 }, (_, index) => ({
      iss: ISS,
      sub: `user-${index}`,
      clients: [hanging.clientId],
    }))
    await curfew.client.postLogoutEvents(events)
    await hanging.told(4)
    await post([hanging.clientId, healthy.clientId])
    await healthy.told(1)
    const event = await settled(await post([healthy.clientId]))
    expect(event).toMatchObject({ acknowledged: 1 })
    expect(event.elapsed_ms).toBeLessThan(2_000)
    expect(hanging.received).toHaveLength(4)
  })
})
