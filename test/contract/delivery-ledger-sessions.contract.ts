import { hash, randomUUID } from 'node:crypto'
import {
  type ClientId,
  type InFlightDelivery,
  type LogoutEvent,
  netOf,
  plan,
  type Session,
  type Settlement,
  type Sid,
  type Subject,
  type WorkerId,
} from '@curfew/domain'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { ISS, newEvent, newLease, planFor, settledAs } from '../integration/ledger-support.ts'
import type { DeliveryLedgerHarness } from './delivery-ledger-harness.ts'

// Goal: the session index of the simulation's memory ledger behaves like that of PostgreSQL.
// Method: the same steps with each: sessions start, events are planned with the answers of the index, and deliveries are settled.

const DEAD: Settlement = { state: 'dead_lettered', reason: 'refused' }
const sha256 = (text: string) => hash('sha256', text)

export function sessionIndexContract(name: string, openHarness: () => Promise<DeliveryLedgerHarness>): void {
  describe(`${name} keeps the contract of the session index`, () => {
    let harness: DeliveryLedgerHarness
    let worker: WorkerId
    beforeAll(async () => {
      harness = await openHarness()
    })
    afterAll(() => harness.close())
    beforeEach(async () => {
      await harness.reset()
      worker = randomUUID() as WorkerId
      await harness.ledger.registerWorker({ id: worker, name: 'test' })
    })

    const sessionOf = (clientId: string, sid: string, more: Partial<Session> = {}): Session => ({
      ...{ iss: ISS, sub: 'alice' as Subject, sid: sid as Sid, clientId: clientId as ClientId, device: null },
      startedAt: new Date(Date.now() - 60_000),
      ...{ startedStated: true, acceptedAt: new Date() },
      expiresAt: new Date(Date.now() + 3_600_000),
      ...more,
    })
    async function start(...of: Parameters<typeof sessionOf>): Promise<void> {
      const session = sessionOf(...of)
      await harness.startSession(session)
      await harness.ledger.oweLateLogouts([session])
    }
    /** The indexed sessions as `client:sid`, with their state. */
    async function indexed(): Promise<readonly string[]> {
      const rows = await harness.sessions()
      return rows.map(({ clientId, sid, logoutEventId, orphaned }) => {
        const state = logoutEventId === null ? '' : orphaned ? ' orphaned' : ' covered'
        return `${clientId}:${sid}${state}`
      })
    }
    async function logout(change: Partial<Record<keyof LogoutEvent, unknown>> = {}) {
      const event = { ...newEvent({ sub: 'alice' }), ...change } as LogoutEvent
      const registry = await harness.ledger.readRegistry()
      const issuer = registry.issuers.get(ISS)
      if (issuer === undefined) throw new Error('expected an issuer')
      const asked = issuer.sessionIssuer === null ? [] : [{ event, issuer: issuer.sessionIssuer }]
      const sessions = (await harness.ledger.findSessions(asked)).get(event.id) ?? []
      const { basis, deliveries } = plan(event, issuer, { kind: 'known', sessions }, sha256)
      const owed = deliveries
        .map((each) => ({ ...each, leased: true }))
        .toSorted((a, b) => a.delivery.bindingId - b.delivery.bindingId)
      await harness.ledger.planEvents({
        batch: [{ ...planFor(event, []), basis, deliveries: owed }],
        lease: newLease(worker),
        registryRevision: registry.revision,
        now: new Date(),
      })
      return { basis, deliveries: owed.map(({ delivery }) => delivery) }
    }
    async function settle(deliveries: readonly InFlightDelivery[], settlement?: Settlement): Promise<void> {
      const batch = deliveries.map((delivery) => settledAs(delivery, settlement))
      await harness.ledger.settleDeliveries({ batch, workerId: worker, now: new Date() })
      await harness.projectIndex()
    }
    const pending = async () => (await harness.rows()).filter(({ state }) => state === 'pending').length

    test('answers by subject or by sid, without sessions that are over', async () => {
      await harness.useIndex('complete')
      await start('rp-0', 's1')
      await start('rp-1', 's1', { device: 'phone' })
      await start('rp-1', 's2', { expiresAt: new Date(Date.now() - 1) })
      const named = async (change: Parameters<typeof logout>[0]) => {
        const { basis, deliveries } = await logout(change)
        return [basis, deliveries.map(({ sid, sessionEndsAt }) => [sid, sessionEndsAt !== null])]
      }
      const both = [
        ['s1', true],
        ['s1', true],
      ]
      expect(await named({})).toEqual(['sessions', both])
      expect(await named({ scope: 'session', sid: 's1' })).toEqual(['sessions', both])
      expect(await named({ sub: 'bob' })).toEqual([
        'registered',
        [
          [null, false],
          [null, false],
        ],
      ])
    })

    test('refuses a plan that was made before the index knew the issuer', async () => {
      const { revision } = await harness.ledger.readRegistry()
      await start('rp-0', 's1')
      const request = { batch: [planFor(newEvent(), [])], lease: newLease(worker), now: new Date() }
      expect(await harness.ledger.planEvents({ ...request, registryRevision: revision })).toMatchObject({
        ok: false,
        why: 'registry_changed',
      })
    })

    test('follows a logout from its plan to its end', async () => {
      await harness.useIndex('complete')
      await start('rp-0', 's1')
      await start('rp-1', 's2')
      await start('rp-1', 's3')
      const { deliveries } = await logout()
      await harness.projectIndex()
      expect(await indexed()).toEqual(['rp-0:s1 covered', 'rp-1:s2 covered', 'rp-1:s3 covered'])
      await settle(deliveries.filter(({ sid }) => sid === 's1'))
      await settle(
        deliveries.filter(({ sid }) => sid === 's2'),
        DEAD,
      )
      await settle(
        deliveries.filter(({ sid }) => sid === 's3'),
        { state: 'lapsed' },
      )
      expect(await indexed()).toEqual(['rp-1:s2 orphaned', 'rp-1:s3 orphaned'])
      // Another logout covers an orphaned session again.
      const again = await logout({ occurredAt: new Date(Date.now() + 1_000) })
      await harness.projectIndex()
      expect(await indexed()).toEqual(['rp-1:s2 covered', 'rp-1:s3 covered'])
      await settle(again.deliveries)
      expect(await indexed()).toEqual([])
    })

    test('ends the session of the initiator, keeps untargeted sessions, and orphans sessions without a binding', async () => {
      for (const clientId of ['rp-0', 'rp-1', 'stranger']) await start(clientId, 's1')
      await logout({ initiator: 'rp-0', clients: ['rp-0', 'stranger'] })
      await harness.projectIndex()
      expect(await indexed()).toEqual(['rp-1:s1', 'stranger:s1 orphaned'])
    })

    test('creates one delivery for a missed session, when the session starts or when the plan is projected', async () => {
      await harness.useIndex('complete')
      await start('rp-0', 's1')
      await settle((await logout({ clients: ['rp-0', 'rp-1'] })).deliveries)
      await start('rp-0', 's2')
      expect(await pending()).toBe(1)
      await start('rp-1', 's2')
      expect(await pending()).toBe(2)
      await harness.projectIndex()
      expect(await indexed()).toEqual(['rp-0:s2 covered', 'rp-1:s2 covered'])

      await logout({ occurredAt: new Date(Date.now() + 1) })
      await harness.startSession(sessionOf('rp-1', 's4'))
      await harness.startSession(sessionOf('rp-0', 's5'))
      await harness.projectIndex()
      expect(await indexed()).toEqual([
        'rp-0:s2 covered',
        'rp-0:s5 covered',
        'rp-1:s2 covered',
        'rp-1:s4 covered',
      ])
      expect(await pending()).toBe(2)
    })

    test('covers a missed session by a logout of the subject that is delivered after it began', async () => {
      await start('rp-0', 's1')
      const { deliveries } = await logout({ clients: ['rp-0', 'rp-1'] })
      expect(deliveries.map(({ sid }) => sid)).toEqual([null, null])
      await start('rp-0', 's2')
      await start('rp-1', 's2')
      await harness.projectIndex()
      expect(await indexed()).toEqual(['rp-0:s1 covered', 'rp-0:s2 covered', 'rp-1:s2 covered'])
      await settle(deliveries)
      expect([await indexed(), await pending()]).toEqual([[], 0])
    })

    describe('a logout of the subject that waits for its next attempt', () => {
      const RETRY: Settlement = { state: 'pending', dueAt: new Date(0), retries: 1, refusals: 0 }
      const later = {
        startedAt: new Date(Date.now() + 3_600_000),
        expiresAt: new Date(Date.now() + 7_200_000),
      }
      const claim = async () => {
        const claimed = await harness.ledger.claimDue({
          ...{ lease: newLease(worker), now: new Date(Date.now() + 60_000), slots: new Map(), limit: 10 },
          otherSlots: { interactive: 10, bulk: 10 },
        })
        return claimed.toSorted((a, b) => a.bindingId - b.bindingId)
      }
      const ends = async () =>
        (await harness.rows()).map(({ state, deadLetterReason }) => deadLetterReason ?? state).toSorted()

      test('is sent unchanged while no later session is known', async () => {
        await start('rp-0', 's1')
        await settle((await logout()).deliveries, RETRY)
        expect((await claim()).map(({ sid }) => sid)).toEqual([null, null])
      })

      test('names the older sessions instead if a later one was posted meanwhile, and does not end that', async () => {
        await start('rp-0', 's1')
        await start('rp-0', 's2')
        await settle((await logout()).deliveries, RETRY)
        await start('rp-0', 'later', later)
        const other = await claim()
        expect(other.map(({ sid }) => sid)).toEqual([null])
        expect(await ends()).toEqual(['in_flight', 'pending', 'pending', 'superseded'])
        const each = await claim()
        expect(each.map(({ sid }) => sid).toSorted()).toEqual(['s1', 's2'])
        const [row] = (await harness.rows()).filter(({ state }) => state === 'superseded')
        expect(each.map(({ id }) => id)).toContain(row?.supersededBy)
        await settle([...other, ...each])
        expect(await indexed()).toEqual(['rp-0:later'])
      })

      test('is a dead letter if no older session is left to name, and stays one when it is replayed', async () => {
        await start('rp-1', 's1')
        await settle((await logout({ clients: ['rp-0'] })).deliveries, RETRY)
        await start('rp-0', 'later', later)
        expect([await claim(), await ends()]).toEqual([[], ['later_session']])
        await harness.replay()
        expect([await claim(), await ends()]).toEqual([[], ['later_session']])
        await harness.projectIndex()
        expect(await indexed()).toEqual(['rp-0:later', 'rp-1:s1'])
      })

      test('names an older session that is posted after the logout was withheld', async () => {
        await settle((await logout({ clients: ['rp-0'] })).deliveries, RETRY)
        await start('rp-0', 'later', later)
        expect(await claim()).toEqual([])
        await start('rp-0', 's1')
        expect((await claim()).map(({ sid }) => sid)).toEqual(['s1'])
        // Another session follows after the first was named alone.
        await start('rp-0', 's2')
        expect((await claim()).map(({ sid }) => sid)).toEqual(['s2'])
      })

      test('does not end another session that is posted after the logout was narrowed', async () => {
        await start('rp-0', 's1')
        await settle((await logout({ clients: ['rp-0'] })).deliveries, RETRY)
        await start('rp-0', 'later', later)
        await claim()
        await settle(await claim())
        await start('rp-0', 's2')
        expect(await indexed()).toEqual(['rp-0:later', 'rp-0:s2 covered'])
        expect((await claim()).map(({ sid }) => sid)).toEqual(['s2'])
      })

      test('is not superseded by an earlier one that is planned late, which ends less', async () => {
        const now = Date.now()
        const at = (ms: number) => ({ occurredAt: new Date(now + ms), acceptedAt: new Date(now + ms) })
        await start('rp-1', 's1')
        await settle((await logout({ clients: ['rp-0'], ...at(10_000) })).deliveries, RETRY)
        const early = await logout({ clients: ['rp-0'], ...at(0) })
        await settle(early.deliveries, RETRY)
        await harness.ledger.supersedeOlder({ ids: early.deliveries.map(({ id }) => id), now: new Date() })
        // The later of the two goes out and covers the other, whichever was planned last.
        const ids = early.deliveries.map(({ id }) => id)
        expect((await claim()).map(({ id }) => ids.includes(id))).toEqual([false])
      })

      test('without a time is not superseded by a later one with a time, which has another clock and may end less', async () => {
        const now = Date.now()
        const accepted = (ms: number) => ({ acceptedAt: new Date(now + ms), clients: ['rp-0'] })
        await start('rp-1', 's1')
        await settle((await logout({ ...accepted(0), occurredAt: null })).deliveries, RETRY)
        const stated = await logout({ ...accepted(1_000), occurredAt: new Date(now + 500) })
        await settle(stated.deliveries, RETRY)
        const ids = stated.deliveries.map(({ id }) => id)
        await harness.ledger.supersedeOlder({ ids, now: new Date() })
        expect(await ends()).toEqual(['pending', 'pending'])
        // A logout without a time ends all that either of them ends.
        await logout({ ...accepted(2_000), occurredAt: null })
        expect(await ends()).toEqual(['in_flight', 'superseded', 'superseded'])
      })

      test('is not superseded by a logout of a device, which ends less', async () => {
        await start('rp-1', 's1')
        await settle((await logout({ clients: ['rp-0'] })).deliveries, RETRY)
        const phone = { scope: 'device', device: 'phone', occurredAt: new Date(Date.now() + 1_000) }
        const { deliveries } = await logout({ clients: ['rp-0'], ...phone })
        expect(deliveries.map(({ sid }) => sid)).toEqual([null])
        await settle(deliveries, RETRY)
        const ids = deliveries.map(({ id }) => id)
        await harness.ledger.supersedeOlder({ ids, now: new Date() })
        expect(await ends()).toEqual(['pending', 'pending'])
      })
    })

    test('does not end a session that began again after a logout together with its predecessor', async () => {
      const hence = (ms: number) => new Date(Date.now() + ms)
      await start('rp-0', 's1')
      const first = await logout({ clients: ['rp-0'] })
      await start('rp-0', 's1', { startedAt: hence(1_000) })
      await harness.projectIndex()
      expect(await indexed()).toEqual(['rp-0:s1 covered'])
      const second = await logout({ clients: ['rp-0'], occurredAt: hence(2_000) })
      await settle(first.deliveries)
      // The second logout was planned before the end of the first was projected.
      expect(await indexed()).toEqual(['rp-0:s1 covered'])
      await settle(second.deliveries, DEAD)
      expect(await indexed()).toEqual(['rp-0:s1 orphaned'])
      await start('rp-0', 's1', { startedAt: hence(3_000) })
      const third = await logout({ clients: ['rp-0'], occurredAt: hence(4_000) })
      await settle(third.deliveries)
      expect(await indexed()).toEqual([])
      await start('rp-0', 's1', { startedAt: hence(5_000) })
      expect(await indexed()).toEqual(['rp-0:s1'])
    })

    test('restarts a session without a stated time when it is posted again after a logout', async () => {
      await harness.useIndex('complete')
      const acceptedAt = (ms: number) => {
        const at = new Date(Date.now() + ms)
        return { startedAt: at, startedStated: false, acceptedAt: at }
      }
      await start('rp-0', 's1', acceptedAt(-60_000))
      const { deliveries } = await logout({ occurredAt: null })
      const again = acceptedAt(1_000)
      await start('rp-0', 's1', again)
      await settle(deliveries)
      expect(await indexed()).toEqual(['rp-0:s1'])
      // The second post came after the logout, so the logout does not cover the session.
      await start('rp-0', 's1', again)
      await harness.projectIndex()
      expect([await indexed(), await pending()]).toEqual([['rp-0:s1'], 0])
    })

    test('recognises a re-login when both starts arrive in one batch', async () => {
      const back = { startedAt: new Date(Date.now() + 1_000) }
      const said = [sessionOf('rp-0', 's1'), sessionOf('rp-0', 's1', back)]
      const changes = netOf(said.map((session) => ({ kind: 'started', session })))
      // The batch may also come twice.
      for (const _ of [1, 2]) await harness.ledger.applySessions(changes)
      await settle((await logout()).deliveries)
      expect(await indexed()).toEqual(['rp-0:s1'])
      await settle((await logout({ occurredAt: new Date(Date.now() + 2_000) })).deliveries)
      expect(await indexed()).toEqual([])
    })

    test('extends a waiting delivery together with its session', async () => {
      await harness.useIndex('complete')
      const soon = new Date(Date.now() + 60_000)
      const later = new Date(Date.now() + 120_000)
      await start('rp-0', 's1', { expiresAt: soon })
      const { deliveries } = await logout({ clients: ['rp-0'] })
      expect(deliveries).toMatchObject([{ sessionEndsAt: soon }])
      await settle(deliveries, { state: 'pending', dueAt: new Date(0), retries: 1, refusals: 0 })
      await start('rp-0', 's1', { expiresAt: later })
      const claimed = await harness.ledger.claimDue({
        ...{ lease: newLease(worker), now: new Date(), slots: new Map(), limit: 10 },
        otherSlots: { interactive: 10, bulk: 10 },
      })
      expect(claimed).toMatchObject([{ sid: 's1', sessionEndsAt: later }])
    })

    test('a delivery lapses neither with a session that has no end, nor with one whose end was taken away', async () => {
      await harness.useIndex('complete')
      await start('rp-0', 's1', { expiresAt: null })
      await start('rp-0', 's2', { expiresAt: new Date(Date.now() + 60_000) })
      const { deliveries } = await logout({ clients: ['rp-0'] })
      const ends = new Map(deliveries.map(({ sid, sessionEndsAt }) => [sid, sessionEndsAt]))
      expect([ends.get('s1' as Sid), ends.get('s2' as Sid)]).toEqual([null, expect.any(Date)])
      const [first, second] = deliveries.toSorted((a, b) => ((a.sid ?? '') < (b.sid ?? '') ? -1 : 1))
      if (first === undefined || second === undefined) throw new Error('expected two deliveries')
      await settle([first], { state: 'pending', dueAt: new Date(0), retries: 1, refusals: 0 })
      await start('rp-0', 's2', { expiresAt: null })
      await settle([second], { state: 'lapsed' })
      const claimed = await harness.ledger.claimDue({
        ...{ lease: newLease(worker), now: new Date(), slots: new Map(), limit: 10 },
        otherSlots: { interactive: 10, bulk: 10 },
      })
      const claims = claimed.map(({ sid, sessionEndsAt }) => [sid, sessionEndsAt])
      expect(claims.toSorted()).toEqual([
        ['s1', null],
        ['s2', null],
      ])
      await settle(claimed, { state: 'acknowledged', level: 'done' })
      expect(await indexed()).toEqual([])
    })

    test('does not lapse a delivery at the old end of a session that was extended during an attempt', async () => {
      await harness.useIndex('complete')
      await start('rp-0', 's1', { expiresAt: new Date(Date.now() + 60_000) })
      const [first, ...others] = (await logout({ clients: ['rp-0'] })).deliveries
      if (first === undefined || others.length > 0) throw new Error('expected one delivery')
      await start('rp-0', 's1', { expiresAt: new Date(Date.now() + 120_000) })
      await settle([first], { state: 'lapsed' })
      expect(await indexed()).toEqual(['rp-0:s1 covered'])
      const [again] = await harness.ledger.claimDue({
        ...{ lease: newLease(worker), now: new Date(), slots: new Map(), limit: 10 },
        otherSlots: { interactive: 10, bulk: 10 },
      })
      if (again === undefined) throw new Error('expected a due delivery')
      expect(again).toMatchObject({ id: first.id, attempts: 1 })
      await settle([again], { state: 'lapsed' })
      expect(await indexed()).toEqual(['rp-0:s1 orphaned'])
    })

    test.each([
      ['later', 120_000],
      ['none', null],
    ])('puts a lapsed delivery back once its session has another end: %s', async (_end, ms) => {
      await harness.useIndex('complete')
      await start('rp-0', 's1', { expiresAt: new Date(Date.now() + 60_000) })
      const { deliveries } = await logout({ clients: ['rp-0'] })
      await settle(deliveries, { state: 'lapsed' })
      expect(await indexed()).toEqual(['rp-0:s1 orphaned'])
      await start('rp-0', 's1', { expiresAt: ms === null ? null : new Date(Date.now() + ms) })
      expect(await indexed()).toEqual(['rp-0:s1 covered'])
      const again = await harness.ledger.claimDue({
        ...{ lease: newLease(worker), now: new Date(), slots: new Map(), limit: 10 },
        otherSlots: { interactive: 10, bulk: 10 },
      })
      expect(again.map(({ id }) => id)).toEqual(deliveries.map(({ id }) => id))
      await settle(again, { state: 'acknowledged', level: 'done' })
      expect(await indexed()).toEqual([])
    })

    test('ignores a session that began after the logout', async () => {
      await start('rp-0', 's1')
      await settle((await logout()).deliveries)
      await start('rp-0', 's2', { startedAt: new Date(Date.now() + 1_000) })
      expect(await indexed()).toEqual(['rp-0:s2'])
      expect(await pending()).toBe(0)
    })
  })
}
