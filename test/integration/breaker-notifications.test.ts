import { randomUUID } from 'node:crypto'
import type { BindingId, WorkerId } from '@curfew/domain'
import { createDeliveryLedger, noticeBreakers } from '@curfew/ledger'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'
import { openWebhookReceiver } from '../support/webhook-receiver.ts'
import { registerQuietly } from './dead-letters-support.ts'

// Goal: operators hear once that a relying party is unavailable and once that it answers again, however many workers notice.
// A flapping relying party causes few notifications, and a dead worker leaves no breaker open for ever.
// Method: a whole pipeline with a relying party that stops and starts. Slow cases run the statements alone and shift timestamps.

const QUIET_MS = 300_000

test('an RP that becomes unavailable and then answers again causes one webhook call for each change', async () => {
  await using curfew = await openCurfew({ workers: 2, bookkeepers: 1 })
  await using shop = await openRelyingParty(curfew, { clientId: 'shop' })
  await using hook = await openWebhookReceiver()
  await curfew.call('PUT', '/v1/webhooks/on-call', { url: hook.url })
  await shop.goDown()
  for (let user = 0; user < 20; user++) await curfew.client.postLogoutEvent({ iss: ISS, sub: `user-${user}` })
  const [opened] = await hook.told(1)
  expect(opened).toMatchObject({
    type: 'relying_party.breaker_opened',
    data: { issuer: 'main', client_id: 'shop' },
  })
  await shop.comeUp()
  const [, closed] = await hook.told(2)
  expect(closed).toMatchObject({
    type: 'relying_party.breaker_closed',
    data: { issuer: 'main', client_id: 'shop', because: 'answered' },
  })
  await shop.told(20)
  await eventually(async () => expect((await curfew.db.query('select from breakers')).rows).toEqual([]))
  expect(hook.received).toHaveLength(2)
})

let curfew: Curfew
let binding: BindingId
beforeEach(async () => {
  curfew = await openCurfew({ workers: 0 })
  await registerQuietly(curfew.call, ['shop'])
  const { rows } = await curfew.db.query<{ id: BindingId }>('select id from bindings')
  binding = rows[0]?.id ?? (0 as BindingId)
})
afterEach(() => curfew.stop())

async function newWorker() {
  const ledger = createDeliveryLedger(curfew.db)
  const id = randomUUID() as WorkerId
  await ledger.registerWorker({ id, name: 'test' })
  return {
    opens: () => ledger.noteBreakers({ workerId: id, opened: [binding], closed: [] }),
    closes: () => ledger.noteBreakers({ workerId: id, opened: [], closed: [binding] }),
    retires: () => ledger.retireWorker(id),
  }
}

/** Lets the bookkeeper look at the breakers. @returns the notifications that it queued, which are then removed. */
async function noticed(): Promise<readonly string[]> {
  await noticeBreakers(curfew.db, { quietMs: QUIET_MS })
  const { rows } = await curfew.db.query<{ type: string; data: { because?: string } }>(
    'delete from notifications returning type, data',
  )
  return rows.map(({ type, data }) =>
    [type.replace('relying_party.breaker_', ''), data.because].join(' ').trim(),
  )
}

const pass = (ms: number) =>
  curfew.db.query(
    `update breaker_notices set opened_at = opened_at - $1 * interval '1 ms', closed_at = closed_at - $1 * interval '1 ms',
       answered_at = answered_at - $1 * interval '1 ms', left_at = left_at - $1 * interval '1 ms'`,
    [ms],
  )

test('only the first worker that opens a breaker and the first that closes it cause a notification', async () => {
  const [one, two] = [await newWorker(), await newWorker()]
  await one.opens()
  expect(await noticed()).toEqual(['opened'])
  await two.opens()
  expect(await noticed()).toEqual([])
  await two.closes()
  expect(await noticed()).toEqual(['closed answered'])
  expect(await noticed()).toEqual([])
})

test('a flapping breaker causes one notification per quiet interval, with its latest state', async () => {
  const worker = await newWorker()
  await worker.opens()
  expect(await noticed()).toEqual(['opened'])
  await worker.closes()
  expect(await noticed()).toEqual(['closed answered'])
  for (let time = 0; time < 3; time++) {
    await worker.opens()
    expect(await noticed()).toEqual([])
    await worker.closes()
    expect(await noticed()).toEqual([])
  }
  await worker.opens()
  await pass(QUIET_MS)
  expect(await noticed()).toEqual(['opened'])
})

test('a breaker that its last worker left open closes after the quiet interval, unless another worker opens it again', async () => {
  const [one, two] = [await newWorker(), await newWorker()]
  await one.opens()
  expect(await noticed()).toEqual(['opened'])
  await one.retires()
  expect(await noticed()).toEqual([])
  await pass(QUIET_MS / 2)
  await two.opens()
  expect(await noticed()).toEqual([])
  await two.retires()
  await pass(QUIET_MS / 2)
  expect(await noticed()).toEqual([])
  await pass(QUIET_MS)
  expect(await noticed()).toEqual(['closed unattended'])
})
