import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { type Curfew, eventually, openCurfew } from '../support/curfew.ts'
import { openWebhookReceiver, signers, type WebhookReceiver } from '../support/webhook-receiver.ts'
import { pileUp, registerQuietly } from './dead-letters-support.ts'

// Goal: a webhook gets its notifications at least once and can verify them, even if processes are killed or unavailable. A
// failing receiver does not affect others, and its failures are visible.
// Method: real receivers, real bookkeepers, short schedules.

const NOTIFYING = {
  webhookScheduleMs: [1, 1, 1, 1, 1, 1],
  deadLetterWindowMs: 1,
  breakerQuietMs: 60_000,
  outcomesLagMs: 0,
}

interface Shown {
  readonly secret?: string
  readonly disabled_reason: string | null
}
interface Sent {
  readonly id: string
  readonly state: string
  readonly attempts: number
  readonly status: number | null
  readonly error: string | null
}

let curfew: Curfew
beforeEach(async () => {
  curfew = await openCurfew({ workers: 0, notifying: NOTIFYING })
})
afterEach(() => curfew.stop())

async function receiver(): Promise<WebhookReceiver> {
  const opened = await openWebhookReceiver()
  onTestFinished(() => opened[Symbol.asyncDispose]())
  return opened
}

async function put(name: string, body: Readonly<Record<string, unknown>>): Promise<Shown> {
  const response = await curfew.call('PUT', `/v1/webhooks/${name}`, body)
  expect(response.ok).toBe(true)
  return (await response.json()) as Shown
}

const show = async (name: string) =>
  (await (await curfew.call('GET', `/v1/webhooks/${name}`)).json()) as Shown

async function sentTo(name: string, query = ''): Promise<readonly Sent[]> {
  const response = await curfew.call('GET', `/v1/webhooks/${name}/deliveries${query}`)
  return ((await response.json()) as { items: Sent[] }).items
}

async function sendTest(name: string): Promise<string> {
  const response = await curfew.call('POST', `/v1/webhooks/${name}/test`, {})
  expect(response.status).toBe(202)
  return ((await response.json()) as { id: string }).id
}

const until = (name: string, expected: readonly Partial<Sent>[]) =>
  eventually(async () => expect(await sentTo(name)).toMatchObject(expected))

test('a test notification is signed with the secret, which is shown once and stored encrypted', async () => {
  await curfew.startBookkeeper()
  const hook = await receiver()
  const { secret = '' } = await put('siem', { url: hook.url })
  expect(Buffer.from(secret.replace('whsec_', ''), 'base64')).toHaveLength(32)
  expect((await show('siem')).secret).toBeUndefined()
  const { rows } = await curfew.db.query<{ row: string }>('select webhooks::text as row from webhooks')
  expect(rows[0]?.row).not.toContain(secret.slice(6, 20))

  const id = await sendTest('siem')
  const [first] = await hook.told(1)
  expect(first).toMatchObject({ id, type: 'webhook.test', data: { webhook: 'siem' } })
  expect(first?.headers['content-type']).toBe('application/json')
  expect(first === undefined ? [] : signers(first, [secret])).toEqual([0])
  await until('siem', [{ id, state: 'delivered', attempts: 1, status: 204, error: null }])
})

test('during the rotation of a secret both secrets sign, the new one first', async () => {
  await curfew.startBookkeeper()
  const hook = await receiver()
  const given = `whsec_${randomBytes(24).toString('base64')}`
  expect((await put('siem', { url: hook.url, secret: given })).secret).toBe(given)
  const rotated = await curfew.call('POST', '/v1/webhooks/siem/rotate-secret', {})
  const { secret = '' } = (await rotated.json()) as Shown
  await sendTest('siem')
  const [first] = await hook.told(1)
  expect(first === undefined ? [] : signers(first, [given, secret])).toEqual([1, 0])

  await curfew.db.query(`update webhooks set previous_secret_until = now()`)
  await sendTest('siem')
  const [, second] = await hook.told(2)
  expect(second === undefined ? [] : signers(second, [given, secret])).toEqual([1])
})

test('a failed notification is retried with the same id by the schedule, and then listed as failed', async () => {
  await curfew.startBookkeeper()
  const hook = await receiver()
  await put('siem', { url: hook.url })
  hook.behave(503)
  const id = await sendTest('siem')
  await until('siem', [{ id, state: 'failed', attempts: 7, status: 503, error: 'answered 503' }])
  expect(hook.received.map((notification) => notification.id)).toEqual(Array.from({ length: 7 }, () => id))
  expect(new Set(hook.received.map(({ raw }) => raw)).size).toBe(1)
  expect(await sentTo('siem', '?state=pending')).toEqual([])
})

test('410 disables a webhook until it is put again', async () => {
  await curfew.startBookkeeper()
  const hook = await receiver()
  await put('siem', { url: hook.url })
  hook.behave(410)
  await sendTest('siem')
  await until('siem', [{ state: 'failed', attempts: 1, status: 410 }])
  expect((await show('siem')).disabled_reason).toMatch(/410 Gone/)
  expect((await curfew.call('POST', '/v1/webhooks/siem/test', {})).status).toBe(409)
  hook.behave(200)
  expect((await put('siem', { url: hook.url })).disabled_reason).toBeNull()
  await sendTest('siem')
  await hook.told(2)
})

test('a notification of a killed bookkeeper is sent by another when its lease is over', async () => {
  const first = await curfew.startBookkeeper()
  const hook = await receiver()
  await put('siem', { url: hook.url })
  hook.behave(null)
  const id = await sendTest('siem')
  await hook.told(1)
  await first.kill()
  hook.behave(204)
  await curfew.startBookkeeper()
  expect(await sentTo('siem')).toMatchObject([{ state: 'pending', attempts: 1 }])
  await curfew.db.query(`update webhook_deliveries set due_at = due_at - interval '60 seconds'`)
  await until('siem', [{ id, state: 'delivered', attempts: 2 }])
  expect(hook.received.map((notification) => notification.id)).toEqual([id, id])
})

test('two bookkeepers send every notification once, and a receiver that hangs delays no other', async () => {
  const bookkeepers = await Promise.all([curfew.startBookkeeper(), curfew.startBookkeeper()])
  const [hung, well] = [await receiver(), await receiver()]
  hung.behave(null)
  await put('hung', { url: hung.url })
  await put('well', { url: well.url })
  for (let count = 0; count < 20; count++) await sendTest('hung')
  await hung.told(8)
  for (let count = 0; count < 20; count++) await sendTest('well')
  await eventually(async () => expect(await sentTo('well', '?state=delivered')).toHaveLength(20))
  expect(well.received).toHaveLength(20)
  // The limit of concurrent requests over both bookkeepers.
  expect(hung.received).toHaveLength(8)
  // Killed, because a stop would wait for the hanging requests.
  await Promise.all(bookkeepers.map((bookkeeper) => bookkeeper.kill()))
})

test('many dead letters become one notification for every relying party and reason, with their number', async () => {
  await using patient = await openCurfew({
    workers: 0,
    notifying: { ...NOTIFYING, deadLetterWindowMs: 3_600_000 },
  })
  await registerQuietly(patient.call, ['shop', 'wiki'])
  const ids = await pileUp(patient.db, { clientId: 'shop', count: 450, reason: 'refused' })
  await pileUp(patient.db, { clientId: 'wiki', count: 1, reason: 'unreachable', secondsAgo: 60 })
  const hook = await receiver()
  expect((await patient.call('PUT', '/v1/webhooks/siem', { url: hook.url })).status).toBe(201)
  await Promise.all([patient.startBookkeeper(), patient.startBookkeeper()])
  const left = () => patient.db.query('select from deliveries where announced_at is null')
  await eventually(async () => expect((await left()).rows).toEqual([]))
  expect(hook.received).toEqual([])
  // The window is over.
  await patient.db.query('update notifications set ready_at = now()')
  await hook.told(2)
  const sent = hook.received.map(({ data }) => data).toSorted((a, b) => Number(b.count) - Number(a.count))
  expect(sent).toMatchObject([
    { issuer: 'main', client_id: 'shop', reason: 'refused', count: 450, delivery_ids: ids.slice(0, 5) },
    { issuer: 'main', client_id: 'wiki', reason: 'unreachable', count: 1 },
  ])
  const [{ oldest, newest } = {}] = sent
  expect(Date.parse(String(newest)) - Date.parse(String(oldest))).toBe(449_000)
  // Later dead letters get a new notification, even if the window of the sent one seems open.
  await patient.db.query(`update notifications set ready_at = now() + interval '1 hour'`)
  await pileUp(patient.db, { clientId: 'shop', count: 3, reason: 'refused', secondsAgo: 10 })
  await eventually(async () => expect((await left()).rows).toEqual([]))
  await patient.db.query('update notifications set ready_at = now() where fanned_out_at is null')
  const [, , third] = await hook.told(3)
  expect(third?.data).toMatchObject({ client_id: 'shop', count: 3 })
})

test('a webhook gets only the types and the issuer of its registration', async () => {
  await registerQuietly(curfew.call, ['shop'])
  await curfew.client.putIssuer('other', { iss: 'https://other.example' })
  const hook = await receiver()
  await put('all', { url: hook.url })
  await put('deaths', { url: hook.url, types: ['delivery.dead_lettered'], issuer: 'main' })
  await put('breakers', { url: hook.url, types: ['relying_party.breaker_opened'] })
  await put('other', { url: hook.url, issuer: 'other' })
  await put('off', { url: hook.url, enabled: false })
  const [id] = await pileUp(curfew.db, { clientId: 'shop', count: 1, reason: 'refused' })
  await curfew.startBookkeeper()
  await until('all', [{ state: 'delivered' }])
  await until('deaths', [{ state: 'delivered' }])
  expect(hook.received).toHaveLength(2)
  expect(hook.received[0]).toMatchObject({
    type: 'delivery.dead_lettered',
    data: { issuer: 'main', client_id: 'shop', reason: 'refused', count: 1, delivery_ids: [id] },
  })
  for (const name of ['breakers', 'other', 'off']) expect(await sentTo(name)).toEqual([])
})

test.each([
  ['plain http to the world', { url: 'http://siem.example/hook', allowed_networks: [] }, '/url'],
  ['a private address', { url: 'https://10.0.0.1/hook' }, '/url'],
  ['an unknown issuer', { url: 'https://siem.example', issuer: 'unknown' }, '/issuer'],
  [
    'a network that is not CIDR',
    { url: 'https://siem.example', allowed_networks: ['10/8'] },
    '/allowed_networks/0',
  ],
  ['a short secret', { url: 'https://siem.example', secret: 'whsec_c2hvcnQ=' }, '/secret'],
  ['a type that is never sent', { url: 'https://siem.example', types: ['sla.budget_frozen'] }, '/types/0'],
])('a webhook with %s is refused', async (_what, body, pointer) => {
  const strict = await openCurfew({ workers: 0, allowedNetworks: [] })
  onTestFinished(() => strict.stop())
  const response = await strict.call('PUT', '/v1/webhooks/siem', body)
  expect(response.status).toBe(400)
  const { errors } = (await response.json()) as { errors: { pointer: string }[] }
  expect(errors.map((error) => error.pointer)).toContain(pointer)
  expect((await strict.call('GET', '/v1/webhooks/siem')).status).toBe(404)
})

test('every change of a webhook is audited, without its secrets', async () => {
  const { secret = '' } = await put('siem', { url: 'https://siem.example/hook?token=hidden' })
  await put('siem', {
    url: 'https://siem.example/hook?token=hidden',
    enabled: false,
    allowed_networks: ['10.0.0.0/8'],
  })
  await curfew.call('POST', '/v1/webhooks/siem/rotate-secret', {})
  expect((await curfew.call('DELETE', '/v1/webhooks/siem')).status).toBe(204)
  expect((await curfew.call('DELETE', '/v1/webhooks/siem')).status).toBe(404)
  const text = await (await curfew.call('GET', '/v1/audit')).text()
  const { items } = JSON.parse(text) as {
    items: { action: string; object: string; credential: string; detail: object }[]
  }
  const ours = items.filter(({ object }) => object === '/v1/webhooks/siem')
  expect(ours.map(({ action }) => action)).toEqual([
    'webhook.deleted',
    'webhook.secret_rotated',
    'webhook.changed',
    'webhook.created',
  ])
  expect(ours[2]?.detail).toMatchObject({ enabled: false, allowed_networks: ['10.0.0.0/8'] })
  expect(ours.every(({ credential }) => credential === 'admin')).toBe(true)
  expect(text).not.toContain('hidden')
  expect(text).not.toContain(secret)
})
