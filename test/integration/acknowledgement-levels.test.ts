import type { Sla } from '@curfew/contract'
import { type AttemptOutcome, LEVELS, type Level, type ReceiptClaims, type Settlement } from '@curfew/domain'
import { outcomesOf, planEvents, readRegistry, settleDeliveries, sweepHistory } from '@curfew/ledger'
import { compactVerify, createLocalJWKSet } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, openCurfew } from '../support/curfew.ts'
import {
  bindingsOf,
  count,
  newEvent,
  newLease,
  newWorker,
  planFor,
  registerParty,
  settledAs,
} from './ledger-support.ts'

// Goal: the API, the receipt and the SLA show every level of acknowledgement, and count a relying party once.
// Method: the test settles deliveries through the ledger, and a real console and bookkeeper show the result.

const BACKCHANNEL = { kind: 'backchannel', counts: 'done', fallbackFor: null } as const
const REVOCATION = { kind: 'global_revocation', counts: 'begun', fallbackFor: null } as const
const DEAD = { state: 'dead_lettered', reason: 'refused' } as const
const at = (level: Level) => ({ state: 'acknowledged', level }) as const

let curfew: Curfew
let workerId: Awaited<ReturnType<typeof newWorker>>

beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, bookkeepers: 1 })
  workerId = await newWorker(curfew.db)
})
afterAll(() => curfew.stop())

/** Registers a relying party with these channels. */
async function register(clientId: string, ...channels: NonNullable<Parameters<typeof registerParty>[3]>) {
  await registerParty(curfew.db, clientId, {}, channels)
}

type Fates = Readonly<Partial<Record<(typeof BACKCHANNEL | typeof REVOCATION)['kind'], Settlement | 'open'>>>

/** Logs a subject out of one relying party. `fates` says how the delivery of each channel ends. */
async function logOut(clientId: string, fates: Fates, noted: { readonly note?: string } = {}) {
  const registry = await readRegistry(curfew.db)
  const own = bindingsOf(registry).filter((binding) => binding.clientId === clientId)
  const used = own.filter(({ kind }) => kind in fates).map((binding) => ({ ...binding, fallbackFor: null }))
  const planned = planFor(newEvent(), used)
  const { revision: registryRevision } = registry
  const now = new Date(planned.event.acceptedAt.getTime() + 40)
  await planEvents(curfew.db, { batch: [planned], lease: newLease(workerId), registryRevision, now })
  const batch = planned.deliveries.flatMap(({ delivery }) => {
    const fate = fates[registry.bindings.get(delivery.bindingId)?.kind as keyof Fates]
    if (fate === undefined || fate === 'open') return []
    const refused = { kind: 'refused', status: 400, error: null, errorDescription: null } as const
    const { state } = fate
    const outcome: AttemptOutcome =
      state === 'acknowledged' ? { kind: state, level: fate.level, status: 204, ...noted } : refused
    return [settledAs(delivery, fate, [outcome])]
  })
  await settleDeliveries(curfew.db, { batch, workerId, now })
  return { id: planned.event.givenId, deliveryIds: planned.deliveries.map(({ delivery }) => delivery.id) }
}

async function receiptOf(id: string): Promise<ReceiptClaims> {
  const bundle = await eventually(() => curfew.client.getReceipt(id))
  const { payload } = await compactVerify(bundle.receipt, createLocalJWKSet(bundle.keys as never))
  return JSON.parse(new TextDecoder().decode(payload)) as ReceiptClaims
}

const sla = (client_id: string): Promise<Sla> => curfew.client.getSla({ client_id })

describe('an acknowledgement', () => {
  beforeAll(() => register('any', { ...REVOCATION, counts: 'unconfirmable' }))

  test.each(LEVELS)('of level %s appears in the API and in the signed receipt', async (level) => {
    const { id, deliveryIds } = await logOut(
      'any',
      { global_revocation: at(level) },
      { note: 'unknown_user' },
    )
    const shown = { channel: 'global_revocation', fallback_for: null, state: 'acknowledged', level }
    expect((await curfew.client.getLogoutEvent(id)).deliveries).toMatchObject([shown])
    expect(await curfew.client.getDelivery(deliveryIds[0] ?? '')).toMatchObject({
      ...shown,
      attempts: [{ outcome: 'acknowledged', note: 'unknown_user' }],
    })
    const { applications } = await curfew.client.getEventSummary(id)
    expect(applications).toMatchObject([{ client_id: 'any', level }])
    const { targets, sla } = await receiptOf(id)
    expect(targets).toMatchObject([{ channel: 'global_revocation', level, kept: true }])
    expect(sla?.kept).toBe(true)
    expect(await outcomesOf(curfew.db, deliveryIds)).toMatchObject([{ channel: 'global_revocation', level }])
  })
})

test('an acknowledgement below the level that counts breaks the SLA', async () => {
  await register('strict', { ...REVOCATION, counts: 'done' })
  const { id } = await logOut('strict', { global_revocation: at('begun') })
  await logOut('strict', { global_revocation: at('done') })
  const { targets, sla: promise } = await receiptOf(id)
  expect(targets).toMatchObject([{ level: 'begun', counts: 'done', kept: false }])
  expect(promise?.kept).toBe(false)
  await eventually(async () => expect(await sla('strict')).toMatchObject({ planned: 2, kept: 1, broken: 1 }))
})

describe('a relying party that requires two channels', () => {
  test('counts once per logout, by its weaker channel', async () => {
    await register('hub', BACKCHANNEL, REVOCATION)
    const { id } = await logOut('hub', { backchannel: at('done'), global_revocation: at('begun') })
    await logOut('hub', { backchannel: at('done'), global_revocation: DEAD })
    await logOut('hub', { backchannel: at('done'), global_revocation: 'open' })
    await eventually(async () =>
      expect(await sla('hub')).toMatchObject({ planned: 3, kept: 1, broken: 1, waiting: 1 }),
    )
    expect((await sla('hub')).elapsed_ms).toMatchObject({ p50: 40 })
    expect(await curfew.client.getEventSummary(id)).toMatchObject({
      ...{ status: 'in_progress', signed_out: 0, total: 1, text: 'hub has begun to sign you out.' },
      applications: [{ state: 'ending', level: 'begun' }],
    })
    expect((await receiptOf(id)).sla?.kept).toBe(true)
  })
})

describe('a fallback', () => {
  beforeAll(() => register('wiki', BACKCHANNEL, { ...REVOCATION, fallbackFor: 'backchannel' }))

  test('stands in for a channel whose delivery is dead-lettered', async () => {
    const { id } = await logOut('wiki', { backchannel: DEAD, global_revocation: at('begun') })
    await logOut('wiki', { backchannel: DEAD, global_revocation: DEAD })
    await logOut('wiki', { backchannel: DEAD, global_revocation: 'open' })
    await logOut('wiki', { backchannel: at('done') })
    await eventually(async () =>
      expect(await sla('wiki')).toMatchObject({ planned: 4, kept: 2, broken: 1, waiting: 1 }),
    )
    const { targets, sla: promise } = await receiptOf(id)
    expect(promise?.kept).toBe(true)
    expect(targets.map(({ channel, fallback_for, kept }) => [channel, fallback_for, kept])).toEqual([
      ['backchannel', undefined, false],
      ['global_revocation', 'backchannel', true],
    ])
    const { applications } = await curfew.client.getEventSummary(id)
    expect(applications).toMatchObject([{ state: 'ending', level: 'begun' }])
  })

  test('is listed by its channel, and its dead letter names that channel', async () => {
    const { items } = await curfew.client.listDeliveries({ client_id: 'wiki', channel: 'global_revocation' })
    expect(items.map(({ channel }) => channel)).toEqual(Array(3).fill('global_revocation'))
    const dead = await curfew.client.listDeadLetters({ client_id: 'wiki' })
    expect(dead.items.map(({ channel }) => channel).toSorted()).toEqual([
      ...Array(3).fill('backchannel'),
      'global_revocation',
    ])
  })

  test('has a receipt that the audit finds intact and in agreement with the ledger', async () => {
    const { items } = await curfew.client.auditLog({ start: 0 })
    expect(new Set(items.map(({ receipt, ledger }) => `${receipt}, ${ledger}`))).toEqual(
      new Set(['intact, agrees']),
    )
  })
})

test('the SLA counts of a logout are kept as long as its event', async () => {
  const soon = new Date(Date.now() + 60_000)
  expect(await count(curfew.db, 'sla_logouts')).toBe(7)
  await sweepHistory(curfew.db, { before: soon, deadBefore: soon, after: null, limit: 1_000 })
  // Two logouts are still open.
  expect(await count(curfew.db, 'sla_logouts')).toBe(2)
})
