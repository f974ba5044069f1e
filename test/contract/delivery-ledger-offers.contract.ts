import { randomUUID } from 'node:crypto'
import type { Binding, LogoutEvent, Settlement, Sid, WorkerId } from '@curfew/domain'
import type { Registry } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  BACKCHANNEL,
  both,
  ISS,
  newEvent,
  newLease,
  planFor,
  settledAs,
} from '../integration/ledger-support.ts'
import { type DeliveryLedgerHarness, type LedgerRow, OFFER_MS } from './delivery-ledger-harness.ts'

// Goal: a delivery that a relying party fetches is claimed by no worker; it is settled by the relying party's acknowledgement or by
// the end of the offer, in PostgreSQL and in the memory ledger of the simulation alike.

const feed = (onDeadline: 'lapsed' | 'dead_lettered') => ({
  ...({ kind: 'feed', fallbackFor: null, names: 'any', counts: 'received' } as const),
  offer: { lastsMs: OFFER_MS, onDeadline },
})
const READ = { level: 'received', evidence: 'applied_to:7' } as const

export function offerContract(name: string, openHarness: () => Promise<DeliveryLedgerHarness>): void {
  describe(`${name} keeps the contract of offers`, () => {
    let harness: DeliveryLedgerHarness
    let worker: WorkerId
    let registry: Registry
    beforeAll(async () => {
      harness = await openHarness()
    })
    afterAll(() => harness.close())
    beforeEach(async () => {
      await harness.reset()
      worker = randomUUID() as WorkerId
      await harness.ledger.registerWorker({ id: worker, name: 'test' })
      await harness.registerParty('api', [feed('lapsed')])
      await harness.registerParty('app', [feed('dead_lettered'), { kind: 'mail', fallbackFor: 'feed' }])
      registry = await harness.ledger.readRegistry()
    })

    const bindings = (...clients: readonly string[]): readonly Binding[] =>
      (registry.issuers.get(ISS)?.bindings ?? []).filter(({ clientId }) => clients.includes(clientId))
    async function logout(change: Partial<LogoutEvent> = {}, of = bindings('api')) {
      const event = { ...newEvent({ sub: 'alice' }), ...change } as LogoutEvent
      const { revision: registryRevision } = await harness.ledger.readRegistry()
      const batch = [planFor(event, of, { leased: false })]
      await harness.ledger.planEvents({
        ...{ batch, lease: newLease(worker), registryRevision, now: harness.now() },
      })
      return event
    }
    const claim = () =>
      harness.ledger.claimDue({
        ...{ lease: newLease(worker), now: new Date(harness.now().getTime() + 10 * OFFER_MS) },
        ...{ slots: new Map(), otherSlots: both(10), limit: 10 },
      })
    const only = async (): Promise<LedgerRow> => {
      const [row, ...others] = await harness.rows()
      if (row === undefined || others.length > 0) throw new Error('expected one delivery')
      return row
    }

    test('a delivery is offered for the time of its channel, and no worker claims it', async () => {
      await logout()
      const { dueAt, ...row } = await only()
      expect(row).toMatchObject({ state: 'offered', attempts: 0, leasedBy: null, settledAt: null })
      expect(Math.abs((dueAt?.getTime() ?? 0) - harness.now().getTime() - OFFER_MS)).toBeLessThan(10_000)
      expect(await claim()).toEqual([])
      expect(await only()).toMatchObject({ state: 'offered' })
    })

    test('an acknowledgement settles it once, with its level and evidence', async () => {
      await logout()
      const { id } = await only()
      expect(await harness.acknowledgeFetched([id], READ)).toEqual([id])
      expect(await only()).toMatchObject({ ...READ, state: 'acknowledged', dueAt: null, attempts: 0 })
      expect(await harness.acknowledgeFetched([id], { ...READ, evidence: 'applied_to:8' })).toEqual([])
      expect(await harness.endOffers()).toEqual([])
      expect(await only()).toMatchObject(READ)
    })

    test('without one it ends with the offer, as its channel says, and a dead letter creates its fallback', async () => {
      await logout({}, bindings('api', 'app'))
      expect(await harness.endOffers()).toHaveLength(2)
      const rows = await harness.rows()
      expect(rows.map(({ state, deadLetterReason }) => deadLetterReason ?? state).toSorted()).toEqual([
        'lapsed',
        'not_fetched',
        'pending',
      ])
      expect(await claim()).toHaveLength(1)
    })

    test('of a relying party that was removed it ends at once', async () => {
      await logout({}, bindings('api'))
      await harness.removeParty('api')
      expect(await harness.endOffers({ late: false })).toHaveLength(1)
      expect(await only()).toMatchObject({ state: 'lapsed' })
    })

    test('a replay offers a dead letter again', async () => {
      await logout({}, bindings('app').slice(0, 1))
      await harness.endOffers()
      const fallback = await claim()
      await harness.ledger.settleDeliveries({
        batch: fallback.map((delivery) => settledAs(delivery, { state: 'lapsed' } as Settlement)),
        ...{ workerId: worker, now: harness.now() },
      })
      await harness.replay()
      const offered = (await harness.rows()).filter(({ state }) => state === 'offered')
      expect(offered).toMatchObject([{ deadLetterReason: null, settledAt: null }])
      expect(await harness.acknowledgeFetched([offered[0]?.id ?? ('' as never)], READ)).toHaveLength(1)
    })

    test('a newer logout of the same user supersedes an offered one', async () => {
      await logout()
      await logout()
      const states = (await harness.rows()).map(({ state }) => state)
      expect(states.toSorted()).toEqual(['offered', 'superseded'])
    })

    test('a logout of a session does not supersede the offer of another session, or of the user', async () => {
      await logout()
      await logout({ scope: 'session', sid: 's1' as Sid } as Partial<LogoutEvent>)
      await logout({ scope: 'session', sid: 's2' as Sid } as Partial<LogoutEvent>)
      expect((await harness.rows()).map(({ state }) => state)).toEqual(['offered', 'offered', 'offered'])
    })

    test('a worker that ends its own leases leaves offers alone', async () => {
      await logout()
      await harness.ledger.retireWorker(worker)
      await harness.ledger.reclaimLeases({ leaseMs: 1 })
      expect(await only()).toMatchObject({ state: 'offered' })
    })

    test('a channel that is sent to is not offered', async () => {
      await harness.registerParty('desk', [BACKCHANNEL])
      registry = await harness.ledger.readRegistry()
      await logout({}, bindings('desk'))
      expect(await only()).toMatchObject({ state: 'pending' })
      expect(await harness.acknowledgeFetched([(await only()).id], READ)).toEqual([])
    })
  })
}
