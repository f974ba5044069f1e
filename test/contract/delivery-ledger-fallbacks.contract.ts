import { randomUUID } from 'node:crypto'
import type {
  Binding,
  BindingId,
  ClientId,
  InFlightDelivery,
  LogoutEvent,
  Session,
  Settlement,
  Sid,
  Subject,
  WorkerId,
} from '@curfew/domain'
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
import type { DeliveryLedgerHarness } from './delivery-ledger-harness.ts'

// Goal: a dead letter creates the delivery of its fallback, in PostgreSQL and in the memory ledger of the simulation alike.
// Method: a relying party whose channel `admin` stands in for `backchannel`, and `paper` for `admin`.

const CHANNELS = [
  BACKCHANNEL,
  { kind: 'admin', fallbackFor: 'backchannel' },
  { kind: 'paper', fallbackFor: 'admin' },
]
const DEAD: Settlement = { state: 'dead_lettered', reason: 'refused' }
const RETRY: Settlement = { state: 'pending', dueAt: new Date(0), retries: 1, refusals: 0 }
const hence = (ms: number) => new Date(Date.now() + ms)

export function fallbackContract(name: string, openHarness: () => Promise<DeliveryLedgerHarness>): void {
  describe(`${name} keeps the contract of fallbacks`, () => {
    let harness: DeliveryLedgerHarness
    let worker: WorkerId
    let registry: Registry
    /** The channel of each binding, removed ones included. */
    const kinds = new Map<BindingId, string>()
    beforeAll(async () => {
      harness = await openHarness()
    })
    afterAll(() => harness.close())
    beforeEach(async () => {
      await harness.reset()
      worker = randomUUID() as WorkerId
      await harness.ledger.registerWorker({ id: worker, name: 'test' })
      await harness.registerParty('desk', CHANNELS)
      kinds.clear()
      await readKinds()
    })

    const bindings = () =>
      (registry.issuers.get(ISS)?.bindings ?? []).filter(({ clientId }) => clientId === 'desk')
    const kindOf = (id: BindingId) => kinds.get(id)
    async function readKinds(): Promise<void> {
      registry = await harness.ledger.readRegistry()
      for (const { id, kind } of registry.bindings.values()) kinds.set(id, kind)
    }

    /** Plans a logout of alice for the relying party. @returns the delivery of its required channel. */
    async function logout(
      change: Partial<LogoutEvent> = {},
      { leased = true, of = bindings() }: { leased?: boolean; of?: readonly Binding[] } = {},
    ): Promise<InFlightDelivery> {
      const planned = planFor({ ...newEvent({ sub: 'alice' }), ...change } as LogoutEvent, of, { leased })
      const [owed] = planned.deliveries
      if (owed === undefined) throw new Error('expected a delivery')
      const { revision: registryRevision } = await harness.ledger.readRegistry()
      await harness.ledger.planEvents({
        ...{ batch: [planned], lease: newLease(worker), registryRevision, now: hence(-1_000) },
      })
      return owed.delivery
    }
    const settle = (deliveries: readonly InFlightDelivery[], settlement?: Settlement) =>
      harness.ledger.settleDeliveries({
        batch: deliveries.map((delivery) => settledAs(delivery, settlement)),
        workerId: worker,
        now: new Date(),
      })
    const claim = () =>
      harness.ledger.claimDue({
        ...{ lease: newLease(worker), now: hence(60_000), slots: new Map(), otherSlots: both(10), limit: 10 },
      })
    /** The deliveries as `channel state`, or as `channel reason` for dead letters. */
    async function states(): Promise<readonly string[]> {
      const rows = await harness.rows()
      return rows
        .map(({ bindingId, state, deadLetterReason }) => `${kindOf(bindingId)} ${deadLetterReason ?? state}`)
        .toSorted()
    }

    test('a plan has a delivery for the required channel only', async () => {
      await logout()
      expect(await states()).toEqual(['backchannel in_flight'])
    })

    test('a dead letter creates the delivery of its fallback, due at once, and a dead fallback that of the next', async () => {
      await settle([await logout()], DEAD)
      expect(await states()).toEqual(['admin pending', 'backchannel refused'])
      const second = await claim()
      expect(second).toMatchObject([{ sid: null, attempts: 0, event: { sub: 'alice' } }])
      await settle(second, DEAD)
      expect(await states()).toEqual(['admin refused', 'backchannel refused', 'paper pending'])
      await settle(await claim(), DEAD)
      expect(await states()).toEqual(['admin refused', 'backchannel refused', 'paper refused'])
    })

    test('a fallback names the session that the dead letter named', async () => {
      await settle([await logout({ scope: 'session', sid: 's1' as Sid } as Partial<LogoutEvent>)], DEAD)
      expect(await claim()).toMatchObject([{ sid: 's1', event: { scope: 'session' } }])
    })

    test('a delivery that is not dead-lettered creates no fallback', async () => {
      await settle([await logout()])
      await settle([await logout()], { state: 'lapsed' })
      await settle([await logout()], RETRY)
      expect(await states()).toEqual([
        'backchannel acknowledged',
        'backchannel lapsed',
        'backchannel pending',
      ])
    })

    test('a dead letter of a removed client creates no fallback', async () => {
      const [first, second] = [await logout(), await logout()]
      await harness.removeParty('desk')
      await settle([first], { state: 'dead_lettered', reason: 'client_removed' })
      await settle([second], DEAD)
      expect(await states()).toEqual(['backchannel client_removed', 'backchannel refused'])
    })

    test.each(['client_removed', 'endpoint_gone', 'attempts_exhausted'] as const)(
      'a dead letter of a removed channel creates a delivery for the required channel that replaces it (%s)',
      async (reason) => {
        const delivery = await logout()
        await harness.registerParty('desk', [
          { kind: 'paper', fallbackFor: null },
          { kind: 'admin', fallbackFor: 'paper' },
        ])
        await readKinds()
        await settle([delivery], { state: 'dead_lettered', reason })
        expect(await states()).toEqual([`backchannel ${reason}`, 'paper pending'])
      },
    )

    test('a fallback that its owner makes required gets the logouts that wait for the other channel', async () => {
      const delivery = await logout()
      await harness.registerParty('desk', [
        { kind: 'admin', fallbackFor: null },
        { kind: 'backchannel', fallbackFor: 'admin' },
      ])
      await readKinds()
      await settle([delivery], DEAD)
      expect(await states()).toEqual(['admin pending', 'backchannel refused'])
    })

    test('a dead letter of a binding for the sessions of the issuer itself is owed to no channel that its client was spared', async () => {
      const admin = { kind: 'admin', fallbackFor: null, always: true } as const
      await harness.registerParty('clinic', [BACKCHANNEL, admin])
      await readKinds()
      const party = [...registry.bindings.values()].filter(({ clientId }) => clientId === 'clinic')
      const initiated = { initiator: 'clinic' as ClientId }
      const delivery = await logout(initiated, { of: party })
      expect(await states()).toEqual(['admin in_flight'])
      await settle([delivery], DEAD)
      expect(await states()).toEqual(['admin refused'])
    })

    test('a removed channel that is registered again gets its dead letters back', async () => {
      const delivery = await logout()
      await harness.registerParty('desk', [{ kind: 'paper', fallbackFor: null }])
      await readKinds()
      await settle([delivery], { state: 'dead_lettered', reason: 'client_removed' })
      expect(await states()).toEqual(['backchannel client_removed', 'paper pending'])
      await harness.registerParty('desk', [BACKCHANNEL])
      await readKinds()
      const moved = await claim()
      await settle(moved, { state: 'dead_lettered', reason: 'client_removed' })
      expect(await states()).toEqual(['backchannel pending', 'paper client_removed'])
    })

    test('a settlement that is repeated, or comes without the lease, creates no further fallback', async () => {
      const [mine, lost] = [await logout(), await logout()]
      await harness.ledger.releaseDeliveries({ ids: [lost.id], workerId: worker })
      await settle([mine, lost], DEAD)
      expect(await settle([mine, lost], DEAD)).toEqual(new Set([mine.id, lost.id]))
      expect(await states()).toEqual(['admin pending', 'backchannel pending', 'backchannel refused'])
    })

    test('a delivery that was unreachable for the whole schedule creates its fallback', async () => {
      const { bindingId } = await logout({}, { leased: false })
      const dueBefore = new Map([[bindingId, hence(60_000)]])
      const request = { dueBefore, now: new Date(), limit: 10 }
      expect(await harness.ledger.giveUpUnreachable(request)).toBe(1)
      expect(await states()).toEqual(['admin pending', 'backchannel unreachable'])
      expect(await harness.ledger.giveUpUnreachable(request)).toBe(0)
    })

    test('a fallback keeps its state when its dead letter is replayed, whatever the outcome', async () => {
      await settle([await logout()], DEAD)
      await settle(await claim())
      await harness.replay()
      await settle(await claim(), DEAD)
      expect(await states()).toEqual(['admin acknowledged', 'backchannel refused'])
      await harness.replay()
      await settle(await claim())
      expect(await states()).toEqual(['admin acknowledged', 'backchannel acknowledged'])
    })

    test('a newer logout supersedes a fallback that waits', async () => {
      await settle([await logout()], DEAD)
      const off = bindings().map((each) =>
        each.fallbackFor === null ? { ...each, disabledReason: 'off' } : each,
      )
      await logout({}, { of: off })
      expect(await states()).toEqual([
        'admin in_flight',
        'admin superseded',
        'backchannel in_flight',
        'backchannel refused',
      ])
    })

    test('a fallback that takes only the subject is created once for the dead letters of all sessions', async () => {
      const admin = { kind: 'admin', fallbackFor: 'backchannel', names: 'subject', widens: false } as const
      await harness.registerParty('clinic', [BACKCHANNEL, admin])
      registry = await harness.ledger.readRegistry()
      const of = [...registry.bindings.values()].filter(({ clientId }) => clientId === 'clinic')
      await settle([await logout({}, { of })], RETRY)
      const began = { startedAt: hence(-60_000), startedStated: true, acceptedAt: hence(-60_000) }
      const later = { ...began, startedAt: hence(3_600_000) }
      const named = { iss: ISS, sub: 'alice' as Subject, clientId: 'clinic' as ClientId, device: null }
      for (const [sid, beginning] of Object.entries({ s1: began, s2: began, later }))
        await harness.startSession({ ...named, ...beginning, sid: sid as Sid, expiresAt: hence(7_200_000) })
      // A later session is known now, so the logout names each of the older ones.
      await claim()
      const each = await claim()
      expect(each.map(({ sid }) => sid).toSorted()).toEqual(['s1', 's2'])
      await settle(each, DEAD)
      expect(await claim()).toMatchObject([{ sid: null, event: { sub: 'alice' } }])
    })

    describe('a session', () => {
      const session: Session = {
        ...{
          iss: ISS,
          sub: 'alice' as Subject,
          sid: 's1' as Sid,
          clientId: 'desk' as ClientId,
          device: null,
        },
        ...{ startedAt: hence(-60_000), startedStated: true, acceptedAt: hence(-60_000) },
        expiresAt: hence(3_600_000),
      }
      const ENDING = { scope: 'session', sid: 's1' } as Partial<LogoutEvent>
      /** The state of the session in the index. */
      async function sessionState(): Promise<string> {
        await harness.projectIndex()
        const [row] = (await harness.sessions()).filter(({ clientId }) => clientId === 'desk')
        if (row === undefined) return 'over'
        return row.orphaned ? 'orphaned' : row.logoutEventId === null ? 'open' : 'covered'
      }
      beforeEach(() => harness.startSession(session))

      test('is over when the required channel acknowledged, whatever its fallbacks', async () => {
        await settle([await logout(ENDING)])
        expect([await sessionState(), await states()]).toEqual(['over', ['backchannel acknowledged']])
      })

      test('is covered while the fallback of a dead letter is in progress, and over when that is acknowledged', async () => {
        await settle([await logout(ENDING)], DEAD)
        expect(await sessionState()).toBe('covered')
        await settle(await claim(), DEAD)
        expect(await sessionState()).toBe('covered')
        await settle(await claim())
        expect(await sessionState()).toBe('over')
      })

      test('is orphaned when the last fallback is a dead letter, until one delivery is acknowledged', async () => {
        await settle([await logout(ENDING)], DEAD)
        await settle(await claim(), DEAD)
        await settle(await claim(), DEAD)
        expect(await sessionState()).toBe('orphaned')
        await harness.replay()
        const replayed = await claim()
        expect(replayed.map(({ bindingId }) => kindOf(bindingId)).toSorted()).toEqual([
          'admin',
          'backchannel',
          'paper',
        ])
        await settle(replayed.filter(({ bindingId }) => kindOf(bindingId) === 'backchannel'))
        expect(await sessionState()).toBe('over')
      })

      test('that becomes known while a fallback of its subject is in progress is over when that is acknowledged', async () => {
        await settle([await logout()], DEAD)
        const late = { ...session, sid: 's2' as Sid }
        await harness.startSession(late)
        await harness.ledger.oweLateLogouts([late])
        expect([await sessionState(), await states()]).toEqual([
          'covered',
          ['admin pending', 'backchannel refused'],
        ])
        await settle(await claim())
        expect(await sessionState()).toBe('over')
      })
    })
  })
}
