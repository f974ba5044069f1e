import { randomBytes, randomUUID } from 'node:crypto'
import { EventLogUnavailableError } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { openAuditedRp } from '../support/audited-rp.ts'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openIdentityProvider, postToRelay } from '../support/identity-provider.ts'
import { type RecordedSpan, type RecordedSpans, recordSpans } from '../support/recorded-spans.ts'
import { openRelyingParty } from '../support/relying-party.ts'
import { insertSessions } from '../support/session-rows.ts'

// Goal: everything that Curfew does for a logout is in its trace, however late and in whatever process, and names no person.
// Method: all services over a real database, real relying parties, and the SDK's exporter into memory.

let curfew: Curfew
let isAvailable = true
beforeAll(async () => {
  curfew = await openCurfew({
    ...{ workers: 0, bookkeepers: 1 },
    wrapEventLog: (real) => ({
      ...real,
      append: (records) =>
        isAvailable ? real.append(records) : Promise.reject(new EventLogUnavailableError('the test')),
    }),
  })
})
afterAll(() => curfew.stop())

function recording(): RecordedSpans {
  const spans = recordSpans()
  onTestFinished(spans.end)
  return spans
}

const PERSON = { sub: 'alice-5b1c', sid: 'session-5b1c', email: 'alice-5b1c@mail.example' }
const newContext = (flags = '01') => {
  const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')]
  return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-${flags}` }
}

/** Posts a logout as a caller with a trace. */
async function post(traceparent: string, event: object): Promise<void> {
  const answer = await curfew.call('POST', '/v1/logout-events', { iss: ISS, ...event }, { traceparent })
  expect(answer.status).toBe(202)
}

/** Starts a worker that ends with the test. */
async function startWorker() {
  const worker = await curfew.startWorker()
  onTestFinished(() => worker.stop())
  return worker
}

const attemptsOf = (spans: readonly RecordedSpan[]) => spans.filter(({ name }) => name === 'POST')

describe('an attempt is a child of the plan of its event', () => {
  test('if another worker makes it later, and if it follows a replay', async () => {
    const spans = recording()
    await using shop = await openRelyingParty(curfew, {
      clientId: 'shop',
      curfew: { retry_schedule_ms: [3_600_000], trace_context: true },
    })
    shop.behave({ status: 500 })
    const first = await curfew.startWorker()
    const { traceId, traceparent } = newContext()
    await post(traceparent, { ...PERSON, clients: ['shop'] })
    // Three: the quick retries follow at once.
    await spans.named(traceId, 'POST', 3)
    await spans.named(traceId, 'settle', 1)
    await first.stop()

    const due = "update deliveries set due_at = now() where state = 'pending'"
    expect((await curfew.db.query(due)).rowCount).toBe(1)
    await startWorker()
    await spans.named(traceId, 'POST', 4)
    await spans.named(traceId, 'settle', 2)
    await spans.one(traceId, 'receipt')

    shop.behave(null)
    await curfew.client.startReplay({ filter: { client_id: 'shop' } })
    await spans.named(traceId, 'POST', 5)
    const settled = await spans.named(traceId, 'settle', 3)
    const { spanId } = await spans.one(traceId, 'plan')
    for (const span of [...attemptsOf(spans.of(traceId)), ...settled])
      expect(span).toMatchObject({ parentSpanId: spanId })
    expect(settled.map(({ attributes }) => attributes['curfew.state'])).toEqual([
      ...['pending', 'dead_lettered', 'acknowledged'],
    ])
    // The relying party got the context of each attempt.
    expect(shop.received.map(({ headers }) => headers.traceparent)).toEqual(
      attemptsOf(spans.of(traceId)).map((attempt) => `00-${traceId}-${attempt.spanId}-01`),
    )
    // The first receipt is of the dead letter, and the second of the acknowledgement.
    const receipts = await spans.named(traceId, 'receipt', 2)
    expect(receipts.map(({ parentSpanId }) => parentSpanId)).toEqual([spanId, spanId])
    expect(spans.text()).not.toContain('5b1c')
  })
})

test('the logouts that an issuer logout makes stay in its trace, below its plan', async () => {
  const spans = recording()
  await using mail = await openRelyingParty(curfew, { clientId: 'mail' })
  await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
  onTestFinished(async () => void (await curfew.client.putIssuer(ISSUER, { iss: ISS })))
  const sids = ['one-5b1c', 'two-5b1c']
  await insertSessions(
    curfew.db,
    ISS,
    sids.map((sid) => ({ sub: `user-${sid}`, sid, clientId: 'mail' })),
  )
  await startWorker()
  const { traceId, traceparent } = newContext()
  await post(traceparent, { scope: 'issuer', reason: 'compromise' })
  await mail.told(2)
  const plans = await spans.named(traceId, 'plan', 3)
  const sends = await spans.named(traceId, 'send logout.events.bulk', 2)
  const whole = plans.find(({ parentSpanId }) => parentSpanId === sends[0]?.spanId)
  expect(sends[1]).toMatchObject({ kind: 'PRODUCER', parentSpanId: whole?.spanId })
  const parts = plans.filter((plan) => plan !== whole)
  expect(parts.map(({ parentSpanId }) => parentSpanId)).toEqual([sends[1]?.spanId, sends[1]?.spanId])
  const attempts = await spans.named(traceId, 'POST', 2)
  expect(new Set(attempts.map(({ parentSpanId }) => parentSpanId))).toEqual(
    new Set(parts.map(({ spanId }) => spanId)),
  )
  expect(spans.text()).not.toContain('5b1c')
})

test('the span of a relayed token that cannot be stored ends with an error', async () => {
  const spans = recording()
  await using idp = await openIdentityProvider({ iss: ISS })
  await curfew.client.putIssuer('relayed', { iss: idp.url, jwks_uri: idp.jwksUri })
  await curfew.client.putRelyingParty('relayed', 'wiki', {
    backchannel_logout_uri: 'https://wiki.example/logout',
    curfew: { enabled: false },
  })
  onTestFinished(() => {
    isAvailable = true
  })
  const relay = async ({ traceparent }: { readonly traceparent: string }) => {
    const token = await idp.token('wiki', { iss: idp.url, ...PERSON })
    return postToRelay(curfew.url, { issuer: 'relayed', clientId: 'wiki', token }, { traceparent })
  }
  const [stored, lost] = [newContext(), newContext()]
  expect((await relay(stored)).status).toBe(200)
  isAvailable = false
  expect((await relay(lost)).status).toBe(503)
  expect(await spans.one(stored.traceId, 'send logout.events')).toMatchObject({ isError: false })
  expect(await spans.one(lost.traceId, 'send logout.events')).toMatchObject({
    ...{ kind: 'PRODUCER', isError: true },
    attributes: { 'error.type': 'unavailable' },
  })
  expect(spans.text()).not.toContain('5b1c')
})

test('the logout of an audit is a trace of its own, without the session', async () => {
  const spans = recording()
  await using rp = await openAuditedRp(curfew, 'audited')
  await curfew.client.putAuditSetup(ISSUER, 'audited', rp.setup())
  await startWorker()
  const { audits } = await curfew.client.runAudits({ issuer: ISSUER, clients: ['audited'] })
  const audit = await eventually(async () => {
    const found = await curfew.client.getAudit(audits[0]?.id ?? '')
    expect(found).toMatchObject({ state: 'ended', result: 'passed' })
    return found
  })
  const isPlan = ({ name, attributes }: RecordedSpan) =>
    name === 'plan' && attributes['curfew.event.id'] === audit.event_id
  const plan = await eventually(() => {
    const found = spans.of().find(isPlan)
    expect(found).toBeDefined()
    return found as RecordedSpan
  })
  const { traceId, spanId } = plan
  const sent = await spans.one(traceId, 'send logout.events')
  expect([sent.parentSpanId, plan.parentSpanId]).toEqual([null, sent.spanId])
  for (const name of ['POST', 'settle', 'receipt'])
    expect(await spans.one(traceId, name)).toMatchObject({ parentSpanId: spanId })
  const [{ body = '' } = {}] = rp.hooked
  expect(rp.hooked).toHaveLength(1)
  for (const secret of ['audit-user-of', 'session=', body].filter((text) => text !== ''))
    expect(spans.text()).not.toContain(secret)
})

describe('a record', () => {
  test('that cannot be read ends the trace in its batch, and shows nothing of its content', async () => {
    const spans = recording()
    const { traceId, traceparent } = newContext()
    await curfew.eventLog.append([
      {
        ...{ lane: 'interactive', key: 'k-5b1c', value: new TextEncoder().encode('{"sub":"alice-5b1c"') },
        headers: { ce_id: randomUUID(), ce_type: 'curfew.logout-event.v1', ce_source: ISS, traceparent },
      },
    ])
    await startWorker()
    expect(await spans.one(traceId, 'process logout.events')).toMatchObject({
      ...{ kind: 'CONSUMER', isError: false, attributes: { 'curfew.quarantined': 1 } },
    })
    expect(spans.of(traceId)).toHaveLength(1)
    expect(spans.text()).not.toContain('5b1c')
  })

  test('with an invalid traceparent is planned without a trace', async () => {
    const spans = recording()
    await using mail = await openRelyingParty(curfew, { clientId: 'tracer', curfew: { trace_context: true } })
    const id = randomUUID()
    const now = new Date().toISOString()
    const event = { id, iss: ISS, sub: 'bob', scope: 'subject', lane: 'interactive', clients: ['tracer'] }
    await curfew.eventLog.append([
      {
        ...{ lane: 'interactive', key: 'k' },
        value: new TextEncoder().encode(JSON.stringify({ ...event, accepted_at: now })),
        headers: {
          ...{ ce_id: id, ce_type: 'curfew.logout-event.v1', ce_source: ISS, ce_time: now },
          traceparent: '00-alice-01',
        },
      },
    ])
    await startWorker()
    await mail.told(1)
    expect(mail.received[0]?.headers.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/)
    expect(spans.text()).not.toContain('alice')
  })
})

test('while nothing is recorded, the relying party that asks receives the trace of the caller', async () => {
  await using mail = await openRelyingParty(curfew, { clientId: 'traced', curfew: { trace_context: true } })
  await using wiki = await openRelyingParty(curfew, { clientId: 'untraced' })
  await startWorker()
  for (const flags of ['00', '01']) {
    const { traceId, spanId, traceparent } = newContext(flags)
    const before = mail.received.length
    await post(traceparent, { ...PERSON, sid: `session-${flags}`, clients: ['traced', 'untraced'] })
    const received = (await mail.told(before + 1)).slice(before)
    expect(received.map(({ headers }) => headers.traceparent)).toEqual([
      expect.stringMatching(new RegExp(`^00-${traceId}-(?!${spanId})[0-9a-f]{16}-${flags}$`)),
    ])
  }
  await wiki.told(2)
  expect(wiki.received.map(({ headers }) => headers.traceparent)).toEqual([undefined, undefined])
})
