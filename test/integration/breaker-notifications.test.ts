import { randomUUID } from 'node:crypto'
import type { BindingId, WorkerId } from '@curfew/domain'
import { createDeliveryLedger, noticeBreakers } from '@curfew/ledger'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'
import { openWebhookReceiver } from '../support/webhook-receiver.ts'
import { registerQuietly } from './dead-letters-support.ts'

// Goal: operators hear once that a relying party is down and once that it answers, however many workers find out, and nothing
// of what flaps in between; and no worker's death leaves it down for ever. Method: an RP that goes down and comes back under a
// whole pipeline; and the statements alone, with time made to pass, for what takes minutes.

const QUIET_MS = 300_000

test('an RP that goes down and comes back is told of, once each, by webhook', async () => {
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

/** What a bookkeeper that looks now has to say. */
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

test('of several workers the first to find it down and the first to get an answer are told of', async () => {
  const [one, two] = [await newWorker(), await newWorker()]
  await one.opens()
  expect(await noticed()).toEqual(['opened'])
  await two.opens()
  expect(await noticed()).toEqual([])
  await two.closes()
  expect(await noticed()).toEqual(['closed answered'])
  expect(await noticed()).toEqual([])
})

test('what opens and closes all the time is told of once in a while, and as it is then', async () => {
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

test('what the last worker left is closed after a while, unless another finds it down still', async () => {
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
