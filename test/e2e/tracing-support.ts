import { randomBytes } from 'node:crypto'
import type { Client } from '@curfew/client'
import { expect } from 'vitest'
import { ISS, ISSUER } from '../support/curfew.ts'
import type { OtlpReceiver, ReceivedSpan } from '../support/otlp/receiver.ts'
import { openRelyingParty } from '../support/relying-party.ts'

const patiently = { timeout: 120_000, interval: 50 }

/** Names that no span may hold. */
const PERSONAL = { sub: 'alice-7f3a', sid: 'session-7f3a', email: 'alice-7f3a@mail.example' }

/** The variables that send every span to a receiver soon. */
export function exportTo(endpoint: string): Readonly<Record<string, string>> {
  return { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_BSP_SCHEDULE_DELAY: '100' }
}

export interface Posted {
  readonly traceId: string
  readonly callerSpanId: string
  /** The `traceparent` of each request that the RP received. */
  readonly mail: readonly (string | undefined)[]
  readonly wiki: readonly (string | undefined)[]
  readonly chat: readonly (string | undefined)[]
  readonly tokens: readonly string[]
}

/**
 * Posts one logout to three relying parties, as a caller with a trace of its own. `mail` asks for the trace context; `chat` is
 * unavailable at first. Returns when the logout is settled and has a receipt.
 */
export async function logOutOfThree(
  admin: Client,
  events: { readonly client: Client; readonly url: string; readonly key: string },
  flags = '01',
): Promise<Posted> {
  await admin.putIssuer(ISSUER, { iss: ISS })
  const curfew = { client: admin }
  await using mail = await openRelyingParty(curfew, { clientId: 'mail', curfew: { trace_context: true } })
  await using wiki = await openRelyingParty(curfew, { clientId: 'wiki' })
  await using chat = await openRelyingParty(curfew, { clientId: 'chat' })
  chat.behave((number) => (number === 1 ? { status: 503 } : null))
  const traceId = randomBytes(16).toString('hex')
  const callerSpanId = randomBytes(8).toString('hex')
  const response = await fetch(`${events.url}/v1/logout-events`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${events.key}`,
      traceparent: `00-${traceId}-${callerSpanId}-${flags}`,
    },
    body: JSON.stringify({ iss: ISS, ...PERSONAL }),
  })
  expect(response.status).toBe(202)
  const { id } = (await response.json()) as { id: string }
  await expect
    .poll(async () => (await events.client.getLogoutEvent(id).catch(() => null))?.status, patiently)
    .toBe('settled')
  await expect.poll(() => admin.getReceipt(id).catch(() => null), patiently).not.toBeNull()
  const contextsOf = (party: typeof mail) =>
    party.received.map(({ headers }) => headers.traceparent as string)
  return {
    ...{ traceId, callerSpanId, mail: contextsOf(mail), wiki: contextsOf(wiki), chat: contextsOf(chat) },
    tokens: [mail, wiki, chat].flatMap(({ received }) =>
      received.map(({ body }) => body.split('=')[1] ?? ''),
    ),
  }
}

/** Checks that the spans of a logout are one trace, with the right parents and links, and hold nothing personal. */
export async function expectOneTrace(receiver: OtlpReceiver, posted: Posted, key: string): Promise<void> {
  const { traceId, callerSpanId } = posted
  const named = (name: string) =>
    receiver.spans.filter((span) => span.traceId === traceId && span.name === name)
  const one = async (name: string): Promise<ReceivedSpan> => {
    await expect.poll(() => named(name), { ...patiently, message: name }).toHaveLength(1)
    return named(name)[0] as ReceivedSpan
  }
  const request = await one('POST /v1/logout-events')
  expect(request).toMatchObject({
    ...{ kind: 'server', parentSpanId: callerSpanId, isError: false },
    attributes: {
      ...{ 'http.request.method': 'POST', 'http.route': '/v1/logout-events' },
      ...{ 'http.response.status_code': 202, 'url.scheme': 'http' },
    },
  })
  const sent = await one('send logout.events')
  expect(sent).toMatchObject({ kind: 'producer', parentSpanId: request.spanId })
  const batch = await one('process logout.events')
  expect(batch).toMatchObject({ kind: 'consumer', links: [{ traceId, spanId: sent.spanId }] })
  const plan = await one('plan')
  expect(plan).toMatchObject({
    parentSpanId: sent.spanId,
    links: [{ traceId, spanId: batch.spanId }],
    attributes: { 'curfew.planned': true },
  })
  const attempts = () => named('POST')
  await expect.poll(attempts, patiently).toHaveLength(4)
  const of = (clientId: string) =>
    attempts().filter(({ attributes }) => attributes['curfew.client_id'] === clientId)
  for (const clientId of ['mail', 'wiki'])
    expect(of(clientId)).toMatchObject([
      { attributes: { 'http.response.status_code': 200, 'curfew.attempt': 1 } },
    ])
  const [failed, retried] = of('chat').toSorted(
    (a, b) => Number(a.attributes['curfew.attempt']) - Number(b.attributes['curfew.attempt']),
  )
  expect(failed).toMatchObject({
    isError: true,
    attributes: { 'http.response.status_code': 503, 'error.type': 'unavailable', 'curfew.attempt': 1 },
  })
  expect(retried).toMatchObject({
    isError: false,
    attributes: { 'http.response.status_code': 200, 'http.request.resend_count': 1, 'curfew.attempt': 2 },
  })
  for (const attempt of attempts())
    expect(attempt).toMatchObject({
      ...{ kind: 'client', parentSpanId: plan.spanId },
      attributes: {
        ...{ 'http.request.method': 'POST', 'server.address': '127.0.0.1', 'curfew.issuer': ISSUER },
        ...{ 'server.port': expect.any(Number), 'curfew.channel': 'backchannel' },
        'curfew.delivery.id': expect.any(String),
      },
    })
  await expect.poll(() => named('settle'), patiently).toHaveLength(3)
  for (const settle of named('settle'))
    expect(settle).toMatchObject({
      parentSpanId: plan.spanId,
      attributes: { 'curfew.state': 'acknowledged', 'curfew.stored': true },
    })
  expect(await one('receipt')).toMatchObject({ parentSpanId: plan.spanId })

  expect(posted.mail).toEqual([`00-${traceId}-${of('mail')[0]?.spanId}-01`])
  expect([...posted.wiki, ...posted.chat]).toEqual([undefined, undefined, undefined])
  expect(receiver.requests.filter((line) => !line.startsWith('/v1/traces '))).toEqual([])
  expect(posted.tokens).toHaveLength(4)
  for (const secret of [...Object.values(PERSONAL), ...posted.tokens, key])
    expect(receiver.text()).not.toContain(secret)
}
