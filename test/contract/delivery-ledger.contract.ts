import { randomUUID } from 'node:crypto'
import {
  type AttemptOutcome,
  type Binding,
  type BindingId,
  eventKeyOf,
  type InFlightDelivery,
  type Settlement,
  type Subject,
  type WorkerId,
} from '@curfew/domain'
import type { DeliveryLedger, Lease, Registry, Slots } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  ACKNOWLEDGED,
  both,
  ISS,
  newEvent,
  newLease,
  planFor,
  settledAs,
} from '../integration/ledger-support.ts'
import type { DeliveryLedgerHarness, LedgerRow } from './delivery-ledger-harness.ts'

// Goal: the memory ledger of the simulation behaves like the PostgreSQL ledger.
// Method: the same tests against each. Time passes only where a test says so, so no test waits for a lease to run out.

const LEASE_MS = 10_000
/** No lease of these tests has a higher number. */
const LAST_LEASE = 1_000_000
const NOW = new Date('2026-11-21T05:00:00Z')
const NONE: ReadonlyMap<BindingId, Slots> = new Map()
const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
const DOWN: AttemptOutcome = {
  kind: 'unavailable',
  status: 503,
  failure: null,
  retryAfterMs: null,
  error: null,
  errorDescription: null,
}

interface LogoutOptions {
  readonly sid?: string
  readonly leased?: boolean
  readonly lane?: 'bulk'
  readonly as?: WorkerId
  readonly lease?: Lease
  readonly at?: Date
  readonly acceptedAt?: Date
}

export function deliveryLedgerContract(
  name: string,
  openHarness: () => Promise<DeliveryLedgerHarness>,
): void {
  describe(`${name} keeps the contract of the delivery ledger`, () => {
    let harness: DeliveryLedgerHarness
    let ledger: DeliveryLedger
    let registry: Registry
    let worker: WorkerId

    beforeAll(async () => {
      harness = await openHarness()
    })
    afterAll(() => harness.close())
    beforeEach(async () => {
      await harness.reset()
      ledger = harness.ledger
      registry = await ledger.readRegistry()
      worker = await newWorker()
    })

    async function newWorker(): Promise<WorkerId> {
      const id = randomUUID() as WorkerId
      await ledger.registerWorker({ id, name: 'test' })
      return id
    }
    const bindings = (): readonly Binding[] => registry.issuers.get(ISS)?.bindings ?? []
    const bindingIds = () => bindings().map(({ id }) => id)

    /** Plans a logout of `sub`, or of one session. @returns a delivery for each binding, in the order of their ids. */
    async function logout(
      sub: string,
      options: LogoutOptions = {},
    ): Promise<readonly [InFlightDelivery, InFlightDelivery]> {
      const { sid, leased = false, lane, as = worker, lease, at = harness.now(), acceptedAt } = options
      const fresh = newEvent({ sub, ...(lane !== undefined && { lane }) })
      const event = acceptedAt === undefined ? fresh : { ...fresh, acceptedAt }
      const planned = planFor(
        sid === undefined ? event : { ...event, scope: 'session', sub: sub as Subject, sid: sid as never },
        bindings().toSorted((a, b) => a.id - b.id),
        { leased, traceparent: TRACEPARENT },
      )
      const request = {
        ...{ batch: [planned], lease: lease ?? newLease(as) },
        ...{ registryRevision: registry.revision, now: at },
      }
      const result = await ledger.planEvents(request)
      expect(result).toEqual({
        ok: true,
        planned: new Set([event.id]),
        conflicts: new Set(),
        needless: new Set(),
      })
      const [first, second] = planned.deliveries.map(({ delivery }) => delivery)
      if (first === undefined || second === undefined) throw new Error('expected two bindings')
      return [first, second]
    }
    async function read({ id }: Pick<InFlightDelivery, 'id'>): Promise<LedgerRow> {
      const row = (await harness.rows()).find((each) => each.id === id)
      if (row === undefined) throw new Error(`no delivery ${id}`)
      return row
    }
    const stateOf = async (delivery: InFlightDelivery) => (await read(delivery)).state
    const claim = (options: Partial<Parameters<DeliveryLedger['claimDue']>[0]> = {}) =>
      ledger.claimDue({
        lease: newLease(worker),
        now: new Date(harness.now().getTime() + 1_000),
        slots: NONE,
        otherSlots: both(100),
        limit: 100,
        ...options,
      })
    const settle = (
      delivery: InFlightDelivery,
      settlement?: Settlement,
      { as = worker, outcomes }: { as?: WorkerId; outcomes?: AttemptOutcome[] } = {},
    ) =>
      ledger.settleDeliveries({
        batch: [settledAs(delivery, settlement, outcomes)],
        workerId: as,
        now: NOW,
      })
    const idsOf = (deliveries: readonly { readonly id: string }[]) =>
      deliveries.map(({ id }) => id).toSorted()

    describe('planning', () => {
      const plan = (
        batch: Parameters<DeliveryLedger['planEvents']>[0]['batch'],
        { as = worker, revision = registry.revision }: { as?: WorkerId; revision?: number | null } = {},
      ) => ledger.planEvents({ batch, lease: newLease(as), registryRevision: revision, now: NOW })

      test('writes an event once, however often it comes, and reports the same id with other content', async () => {
        const event = newEvent({ sub: 'alice' })
        const other = planFor(
          { ...event, scope: 'subject', sub: 'mallory' as Subject, sid: null },
          bindings(),
        )
        const fresh = planFor(newEvent(), bindings())
        await plan([planFor(event, bindings())])
        const before = await harness.rows()
        const again = await plan([planFor(event, bindings())])
        expect(again).toEqual({ ok: true, planned: new Set(), conflicts: new Set(), needless: new Set() })
        expect(await harness.rows()).toEqual(before)
        const mixed = await plan([other, fresh])
        const planned = new Set([fresh.event.id])
        expect(mixed).toEqual({ ok: true, planned, conflicts: new Set([event.id]), needless: new Set() })
        expect(await harness.rows()).toHaveLength(4)
      })

      test('writes nothing for a dead worker, nor from a registry that has changed', async () => {
        const batch = [planFor(newEvent(), bindings())]
        const stranger = randomUUID() as WorkerId
        expect(await plan(batch, { as: stranger })).toEqual({ ok: false, why: 'worker_lost' })
        await harness.registerParty('late')
        expect(await plan(batch)).toEqual({ ok: false, why: 'registry_changed' })
        expect(await plan(batch, { as: stranger })).toEqual({ ok: false, why: 'worker_lost' })
        expect(await harness.rows()).toEqual([])
        expect(await plan(batch, { as: stranger, revision: null })).toEqual({ ok: false, why: 'worker_lost' })
        expect(await plan([planFor(newEvent(), bindings())], { revision: null })).toMatchObject({ ok: true })
        registry = await ledger.readRegistry()
        expect(await plan(batch)).toMatchObject({ ok: true })
      })

      test('creates a delivery that is leased to the worker, or pending and due at once', async () => {
        const [leased] = await logout('alice', { leased: true })
        const [pending] = await logout('bob', { at: NOW })
        const fresh = { attempts: 0, retries: 0, refusals: 0, settledAt: null, supersededBy: null }
        expect(await read(leased)).toMatchObject({
          ...fresh,
          state: 'in_flight',
          dueAt: null,
          leasedBy: worker,
        })
        expect(await read(pending)).toMatchObject({ ...fresh, state: 'pending', dueAt: NOW, leasedBy: null })
      })

      test('makes a delivery due when its event was accepted, even if the clock is ahead', async () => {
        const ahead = new Date(harness.now().getTime() + 7_200_000)
        const [pending] = await logout('bob', { at: ahead })
        expect((await read(pending)).dueAt).toEqual(pending.event.acceptedAt)
        expect(idsOf(await claim())).toContain(pending.id)
        // A worker with the right time releases it.
        await ledger.releaseDeliveries({ ids: [pending.id], workerId: worker })
        expect(idsOf(await claim())).toContain(pending.id)
      })

      test('supersedes the waiting deliveries for the same target and binding, and nothing else', async () => {
        const older = await logout('alice')
        const running = await logout('alice', { leased: true })
        const session = await logout('alice', { sid: 's1' })
        const [bob] = await logout('bob')
        // The running delivery superseded it when it was planned.
        expect(await stateOf(older[0])).toBe('superseded')
        const newer = await logout('alice', { lane: 'bulk' })
        for (const place of [0, 1] as const) {
          expect(await read(older[place])).toMatchObject({
            state: 'superseded',
            supersededBy: running[place].id,
            dueAt: null,
            settledAt: expect.any(Date),
          })
          expect(await stateOf(running[place])).toBe('in_flight')
          expect(await stateOf(session[place])).toBe('pending')
          expect(await stateOf(newer[place])).toBe('pending')
        }
        expect(await stateOf(bob)).toBe('pending')
      })

      test('supersedes no interactive delivery by a bulk one', async () => {
        const [click] = await logout('alice')
        const [mass] = await logout('alice', { lane: 'bulk' })
        const [newerMass] = await logout('alice', { lane: 'bulk' })
        expect(await stateOf(click)).toBe('pending')
        expect(await read(mass)).toMatchObject({ state: 'superseded', supersededBy: newerMass.id })
        const [newerClick] = await logout('alice')
        for (const one of [click, newerMass])
          expect(await read(one)).toMatchObject({ state: 'superseded', supersededBy: newerClick.id })
      })

      test('supersedes nothing that is planned in the same batch', async () => {
        const batch = ['alice', 'alice'].map((sub) =>
          planFor(newEvent({ sub }), bindings(), { leased: false }),
        )
        await plan(batch)
        expect((await harness.rows()).map(({ state }) => state)).toEqual(Array(4).fill('pending'))
      })
    })

    describe('claiming', () => {
      test('takes as many deliveries of each binding and lane as it has slots, the oldest first', async () => {
        const [one, other] = bindingIds()
        if (one === undefined || other === undefined) throw new Error('expected two bindings')
        const planned: InFlightDelivery[] = []
        for (const seconds of [30, 10, 20]) {
          const at = new Date(harness.now().getTime() - seconds * 1_000)
          planned.push((await logout(`sub-${seconds}`, { at }))[0])
          await logout(`mass-${seconds}`, { at, lane: 'bulk' })
        }
        const slots = new Map([[one, { interactive: 2, bulk: 1 }]])
        const claimed = await claim({ slots, otherSlots: { interactive: 0, bulk: 2 } })
        const lanesOf = (id: BindingId) =>
          claimed
            .filter(({ bindingId }) => bindingId === id)
            .map(({ event }) => event.lane)
            .toSorted()
        expect(lanesOf(one)).toEqual(['bulk', 'interactive', 'interactive'])
        expect(lanesOf(other)).toEqual(['bulk', 'bulk'])
        const people = claimed.filter(({ bindingId, event }) => bindingId === one && event.lane !== 'bulk')
        expect(idsOf(people)).toEqual(idsOf([planned[0], planned[2]].filter((each) => each !== undefined)))
      })

      test('takes the interactive lane first if the limit is short, and nothing twice', async () => {
        await logout('mass', { lane: 'bulk' })
        await logout('alice')
        const first = await claim({ limit: 3 })
        expect(first.map(({ event }) => event.lane).toSorted()).toEqual([
          'bulk',
          'interactive',
          'interactive',
        ])
        expect(await claim()).toHaveLength(1)
        expect(await claim()).toEqual([])
      })

      test('takes only due deliveries, and nothing for a dead worker', async () => {
        const at = new Date(harness.now().getTime() - 60_000)
        await logout('alice', { at })
        expect(await claim({ now: new Date(at.getTime() - 1) })).toEqual([])
        expect(await claim({ lease: newLease(randomUUID() as WorkerId) })).toEqual([])
        expect(await claim({ now: at })).toHaveLength(2)
      })

      test('returns all that an attempt needs', async () => {
        const [delivery] = await logout('alice', { leased: true, sid: 's1' })
        const dueAt = new Date(harness.now().getTime() - 1_000)
        await settle(
          delivery,
          { state: 'pending', dueAt, retries: 2, refusals: 1 },
          { outcomes: [DOWN, DOWN] },
        )
        const { iss, givenId, sub, scope, lane, acceptedAt, traceparent } = delivery.event
        expect(traceparent).toBe(TRACEPARENT)
        const counts = { attempts: 2, retries: 2, refusals: 1 }
        expect(await claim()).toEqual([
          { ...delivery, event: { iss, givenId, sub, scope, lane, acceptedAt, traceparent }, ...counts },
        ])
        expect(await read(delivery)).toMatchObject({ ...counts, state: 'in_flight', dueAt: null })
      })
    })

    describe('settling', () => {
      test('moves a delivery to each next state, and keeps its attempts', async () => {
        const [done, later] = await logout('alice', { leased: true })
        const [dead, lapsed] = await logout('bob', { leased: true })
        const pending = { state: 'pending', dueAt: NOW, retries: 1, refusals: 0 } as const
        expect(await settle(done)).toEqual(new Set())
        await settle(later, pending, { outcomes: [DOWN, DOWN, DOWN] })
        await settle(dead, { state: 'dead_lettered', reason: 'attempts_exhausted' }, { outcomes: [DOWN] })
        await settle(lapsed, { state: 'lapsed' }, { outcomes: [] })
        const ended = { settledAt: NOW, dueAt: null }
        expect(await read(done)).toMatchObject({
          ...ended,
          state: 'acknowledged',
          level: 'done',
          attempts: 1,
        })
        expect(await read(later)).toMatchObject({ ...pending, attempts: 3, settledAt: null })
        expect(await read(dead)).toMatchObject({ ...ended, deadLetterReason: 'attempts_exhausted' })
        expect(await read(lapsed)).toMatchObject({ ...ended, state: 'lapsed', attempts: 0 })
        const kept = (await harness.attempts()).map(({ id, number, outcome }) => [id, number, outcome])
        const down = (id: string, number: number) => [id, number, 'unavailable']
        const wanted = [
          [done.id, 1, 'acknowledged'],
          ...[1, 2, 3].map((number) => down(later.id, number)),
          down(dead.id, 1),
        ]
        expect(kept.toSorted()).toEqual(wanted.toSorted())
      })

      test('needs the lease and works once, and the rest of a batch is recorded', async () => {
        const [mine, lost] = await logout('alice', { leased: true })
        const stranger = await newWorker()
        expect(await settle(mine, undefined, { as: stranger })).toEqual(new Set([mine.id]))
        expect(await stateOf(mine)).toBe('in_flight')
        await ledger.releaseDeliveries({ ids: [lost.id], workerId: worker })
        const batch = [settledAs(lost), settledAs(mine)]
        expect(await ledger.settleDeliveries({ batch, workerId: worker, now: NOW })).toEqual(
          new Set([lost.id]),
        )
        expect(await settle(mine, { state: 'dead_lettered', reason: 'refused' })).toEqual(new Set([mine.id]))
        expect(await stateOf(mine)).toBe('acknowledged')
        expect(await harness.attempts()).toHaveLength(1)
      })

      test('records a settlement once if a batch has it twice, and reports the repeat', async () => {
        const [delivery] = await logout('alice', { leased: true })
        const batch = [settledAs(delivery), settledAs(delivery)]
        const request = { batch, workerId: worker, now: NOW }
        expect(await ledger.settleDeliveries(request)).toEqual(new Set([delivery.id]))
        expect(await read(delivery)).toMatchObject({ state: 'acknowledged', attempts: 1 })
        expect(await harness.attempts()).toHaveLength(1)
      })

      test('changes nothing when repeated after a lost answer, even if the worker claimed the delivery again', async () => {
        const [delivery] = await logout('alice', { leased: true })
        const [beside] = await logout('bob', { leased: true })
        const dueAt = new Date(harness.now().getTime() - 1_000)
        const again = settledAs(delivery, { state: 'pending', dueAt, retries: 1, refusals: 0 }, [DOWN])
        const request = { batch: [again], workerId: worker, now: NOW }
        await ledger.settleDeliveries(request)
        expect(idsOf(await claim())).toEqual([delivery.id])
        const batch = [again, settledAs(beside)]
        expect(await ledger.settleDeliveries({ ...request, batch })).toEqual(new Set([delivery.id]))
        expect(await read(delivery)).toMatchObject({ state: 'in_flight', attempts: 1 })
        expect(await stateOf(beside)).toBe('acknowledged')
        expect(await harness.attempts()).toHaveLength(2)
      })

      test.each<[string, Settlement, AttemptOutcome[]]>([
        ['acknowledged without an attempt', { state: 'acknowledged', level: 'done' }, []],
        ['dead without a reason', { state: 'dead_lettered', reason: null as never }, [DOWN]],
        [
          'pending without a time',
          { state: 'pending', dueAt: null as never, retries: 0, refusals: 0 },
          [DOWN],
        ],
      ])(
        'ends a delivery as unrecordable if the schema refuses its result, and blocks no other: %s',
        async (_name, settlement, outcomes) => {
          const [delivery] = await logout('alice', { leased: true })
          const [beside] = await logout('bob', { leased: true })
          const batch = [settledAs(delivery, settlement, outcomes), settledAs(beside)]
          expect(await ledger.settleDeliveries({ batch, workerId: worker, now: NOW })).toEqual(new Set())
          expect(await read(delivery)).toMatchObject({
            state: 'dead_lettered',
            deadLetterReason: 'unrecordable',
            settledAt: NOW,
            attempts: 0,
          })
          expect(await stateOf(beside)).toBe('acknowledged')
        },
      )

      test('keeps the result of a delivery if only its attempts are refused', async () => {
        const [delivery] = await logout('alice', { leased: true })
        const [beside] = await logout('bob', { leased: true })
        const twice = settledAs(delivery, undefined, [DOWN, ACKNOWLEDGED])
        // Two attempts have one number and one start, so the key of their table refuses the second.
        const attempts = twice.attempts.map((attempt) => ({ ...attempt, number: 1, startedAt: NOW }))
        const batch = [{ ...twice, attempts }, settledAs(beside)]
        expect(await ledger.settleDeliveries({ batch, workerId: worker, now: NOW })).toEqual(new Set())
        expect(await read(delivery)).toMatchObject({ state: 'acknowledged', attempts: 2 })
        expect(await harness.attempts()).toEqual([{ id: beside.id, number: 1, outcome: 'acknowledged' }])
      })
    })

    test('a release makes a delivery due as of its planning, costs no attempt, and needs the lease', async () => {
      const at = new Date(harness.now().getTime() - 1_000)
      const [first, second] = await logout('alice', { leased: true, at })
      await ledger.releaseDeliveries({ ids: [first.id], workerId: await newWorker() })
      expect(await stateOf(first)).toBe('in_flight')
      await ledger.releaseDeliveries({ ids: [first.id], workerId: worker })
      expect(await read(first)).toMatchObject({ state: 'pending', attempts: 0, dueAt: at })
      expect(await stateOf(second)).toBe('in_flight')
      expect(idsOf(await claim())).toEqual([first.id])
    })

    test('superseding keeps the youngest of the deliveries that wait for the target of a named one', async () => {
      const nowMs = harness.now().getTime()
      const older = await logout('alice', { leased: true, at: new Date(nowMs - 2_000) })
      const young = await logout('alice', { leased: true, at: new Date(nowMs - 1_000) })
      const [newest] = await logout('alice', { at: new Date(nowMs) })
      const again = { state: 'pending', dueAt: NOW, retries: 1, refusals: 0 } as const
      for (const delivery of [...older, ...young]) await settle(delivery, again, { outcomes: [DOWN] })
      const ids = [young[0].id]
      expect(await ledger.supersedeOlder({ ids, now: NOW })).toBe(2)
      const covered = { state: 'superseded', supersededBy: newest.id, attempts: 1, settledAt: NOW }
      for (const delivery of [older[0], young[0]]) expect(await read(delivery)).toMatchObject(covered)
      expect(await stateOf(newest)).toBe('pending')
      // No delivery was named at the other binding.
      expect(await stateOf(older[1])).toBe('pending')
      expect(await ledger.supersedeOlder({ ids, now: NOW })).toBe(0)
    })

    test('superseding older deliveries keeps the youngest interactive one beside a younger bulk one', async () => {
      const at = (second: number) => new Date(harness.now().getTime() - 60_000 + second * 1_000)
      const click = (second: number) => logout('alice', { leased: true, at: at(second) })
      const mass = (second: number) => logout('alice', { leased: true, at: at(second), lane: 'bulk' })
      const clicks = [await click(1), await click(2)] as const
      const masses = [await mass(3), await mass(4)] as const
      const again = { state: 'pending', dueAt: NOW, retries: 1, refusals: 0 } as const
      for (const [one] of [...clicks, ...masses]) await settle(one, again, { outcomes: [DOWN] })
      expect(await ledger.supersedeOlder({ ids: [masses[1][0].id], now: NOW })).toBe(2)
      for (const [[older], [newer]] of [clicks, masses]) {
        expect(await read(older)).toMatchObject({ state: 'superseded', supersededBy: newer.id })
        expect(await stateOf(newer)).toBe('pending')
      }
    })

    test('bringing forward makes failed deliveries of the binding due, but no refused ones', async () => {
      const [one] = bindingIds()
      const [down, elsewhere] = await logout('alice', { leased: true, at: NOW })
      const [refused] = await logout('bob', { leased: true, at: NOW })
      const nowMs = harness.now().getTime()
      const dueAt = new Date(nowMs + 3_600_000)
      const [fresh] = await logout('carol', { at: dueAt })
      const again = { state: 'pending', dueAt, retries: 1, refusals: 0 } as const
      for (const delivery of [down, elsewhere]) await settle(delivery, again, { outcomes: [DOWN] })
      await settle(refused, { ...again, refusals: 1 }, { outcomes: [DOWN] })
      const request = { bindingId: one as BindingId, now: new Date(nowMs) }
      expect(await ledger.bringForward(request)).toBe(1)
      expect(await read(down)).toMatchObject({ state: 'pending', dueAt: NOW, retries: 1 })
      for (const delivery of [elsewhere, refused]) expect((await read(delivery)).dueAt).toEqual(dueAt)
      expect((await read(fresh)).dueAt).toEqual(fresh.event.acceptedAt)
      expect(await ledger.bringForward(request)).toBe(0)
    })

    test('bringing forward includes deliveries that were planned by a clock that has been set back', async () => {
      const at = new Date(harness.now().getTime() + 7_200_000)
      const [down] = await logout('alice', { leased: true, at })
      await settle(down, { state: 'pending', dueAt: at, retries: 1, refusals: 0 }, { outcomes: [DOWN] })
      const now = harness.now()
      expect(await ledger.bringForward({ bindingId: down.bindingId, now })).toBe(1)
      expect((await read(down)).dueAt).toEqual(now)
    })

    test('giving up spares a delivery that was just planned, however long ago its event was accepted', async () => {
      const acceptedAt = new Date(harness.now().getTime() - 3_600_000)
      const [late] = await logout('alice', { acceptedAt })
      const dueBefore = new Map([[late.bindingId, new Date(harness.now().getTime() - 1_800_000)]])
      expect((await read(late)).dueAt).toEqual(acceptedAt)
      expect(await ledger.giveUpUnreachable({ dueBefore, now: NOW, limit: 9 })).toBe(0)
    })

    test('giving up ends the deliveries that are overdue at the named bindings, up to the limit for each lane', async () => {
      const [one] = bindingIds()
      if (one === undefined) throw new Error('expected a binding')
      const past = (minutes: number) => new Date(harness.now().getTime() - minutes * 60_000)
      const oldest = await logout('alice', { at: past(60) })
      const [old] = await logout('bob', { at: past(50) })
      const [bulk] = await logout('carol', { at: past(40), lane: 'bulk' })
      const [young] = await logout('dave', { at: past(10) })
      const dueBefore = new Map([[one, past(30)]])
      expect(await ledger.giveUpUnreachable({ dueBefore, now: NOW, limit: 1 })).toBe(2)
      const dead = { state: 'dead_lettered', deadLetterReason: 'unreachable', settledAt: NOW, attempts: 0 }
      expect(await read(oldest[0])).toMatchObject(dead)
      expect(await read(bulk)).toMatchObject(dead)
      for (const delivery of [old, young, oldest[1]]) expect(await stateOf(delivery)).toBe('pending')
    })

    test('followers hear of every event once, by its own id or the ids of its deliveries', async () => {
      const [one, two] = await logout('alice')
      const others = Array.from({ length: 1_500 }, () => newEvent().id)
      const heard = await harness.announced(() =>
        ledger.announceSettled([one.id, two.id, one.eventId, ...others]),
      )
      // Some of these events are made within the same milliseconds and share a key.
      expect(heard).toEqual([...new Set([one.eventId, ...others].map(eventKeyOf))])
    })

    describe('workers', () => {
      test('have a rank among the living, and the deliveries of a silent worker are due at once', async () => {
        const [held, settled] = await logout('alice', { leased: true })
        await settle(settled)
        await harness.age(LEASE_MS - 2_000)
        const living = await newWorker()
        expect(await ledger.reclaimLeases({ leaseMs: LEASE_MS })).toBe(0)
        const [kept] = await logout('bob', { leased: true, as: living })
        const ranks = [await ledger.beat(living), await ledger.beat(worker)].toSorted(
          (a, b) => a.rank - b.rank,
        )
        expect(ranks).toMatchObject([0, 1].map((rank) => ({ alive: true, workers: 2, rank })))
        await harness.age(LEASE_MS + 1)
        await ledger.beat(living)
        expect(await ledger.reclaimLeases({ leaseMs: LEASE_MS })).toBe(1)
        expect(await ledger.beat(worker)).toMatchObject({ alive: false, workers: 1 })
        expect(await read(held)).toMatchObject({ state: 'pending', attempts: 0 })
        expect(await stateOf(settled)).toBe('acknowledged')
        expect(await stateOf(kept)).toBe('in_flight')
        expect(idsOf(await claim({ lease: newLease(living) }))).toEqual([held.id])
      })

      test('that may make no attempts are counted only by themselves', async () => {
        const others = [await newWorker(), await newWorker(), worker].toSorted()
        const [first, second, third] = others as [WorkerId, WorkerId, WorkerId]
        expect(await ledger.beat(second, { working: false })).toMatchObject({ alive: true })
        expect(await ledger.beat(first)).toMatchObject({ workers: 2, rank: 0 })
        expect(await ledger.beat(third)).toMatchObject({ workers: 2, rank: 1 })
        expect(await ledger.beat(second, { working: false })).toMatchObject({ workers: 3, rank: 1 })
        // The worker still takes part in planning.
        const [held] = await logout('alice', { leased: true, as: second })
        expect(await stateOf(held)).toBe('in_flight')
        await ledger.beat(second)
        expect(await ledger.beat(third)).toMatchObject({ workers: 3, rank: 2 })
      })

      test('are declared dead if the clock of their last heartbeat was set back by more than a lease', async () => {
        const [held] = await logout('alice', { leased: true })
        const living = await newWorker()
        await harness.age(-LEASE_MS + 2_000)
        await ledger.beat(living)
        expect(await ledger.reclaimLeases({ leaseMs: LEASE_MS })).toBe(0)
        await harness.age(-7_200_000)
        await ledger.beat(living)
        expect(await ledger.reclaimLeases({ leaseMs: LEASE_MS })).toBe(2)
        expect(await ledger.beat(living)).toMatchObject({ alive: true, workers: 1 })
        expect(await stateOf(held)).toBe('pending')
      })

      test('release their deliveries when they retire', async () => {
        const [mine] = await logout('alice', { leased: true })
        const [others] = await logout('bob', { leased: true, as: await newWorker() })
        expect(await ledger.retireWorker(worker)).toBe(2)
        expect(await ledger.retireWorker(worker)).toBe(0)
        expect([await stateOf(mine), await stateOf(others)]).toEqual(['pending', 'in_flight'])
        expect(await ledger.beat(worker)).toMatchObject({ alive: false })
      })

      test('release deliveries that they do not know of, whatever their age', async () => {
        const known: InFlightDelivery['id'][] = []
        for (const ageMs of [0, 16 * 60_000, 3 * 86_400_000]) {
          const [unheld, held] = await logout('alice', { leased: true })
          known.push(held.id)
          const [others] = await logout('bob', { leased: true, as: await newWorker() })
          await harness.age(ageMs)
          await ledger.beat(worker)
          const request = { workerId: worker, asking: [], held: known, upTo: LAST_LEASE }
          expect(await ledger.releaseUnheld(request)).toBe(1)
          expect(await ledger.releaseUnheld(request)).toBe(0)
          const states = await Promise.all([unheld, held, others].map(stateOf))
          expect(states, `after ${ageMs} ms`).toEqual(['pending', 'in_flight', 'in_flight'])
        }
      })

      test('release unknown deliveries even after a very long silence', async () => {
        const planned = await logout('alice', { leased: true })
        const [due] = await logout('bob')
        await claim({ slots: new Map([[due.bindingId, both(1)]]), otherSlots: both(0) })
        await harness.age(40 * 86_400_000)
        await ledger.beat(worker)
        expect(await ledger.reclaimLeases({ leaseMs: LEASE_MS })).toBe(0)
        expect(await ledger.releaseUnheld({ workerId: worker, asking: [], held: [], upTo: LAST_LEASE })).toBe(
          3,
        )
        const states = await Promise.all([...planned, due].map(stateOf))
        expect(states).toEqual(['pending', 'pending', 'pending'])
      })

      test('keep deliveries of a lease whose statement has not answered yet', async () => {
        const lease = newLease(worker)
        const [one, two] = await logout('alice', { leased: true, lease })
        const asked = { workerId: worker, asking: [lease.number], held: [], upTo: LAST_LEASE }
        expect(await ledger.releaseUnheld(asked)).toBe(0)
        expect([await stateOf(one), await stateOf(two)]).toEqual(['in_flight', 'in_flight'])
        expect(await ledger.releaseUnheld({ ...asked, asking: [lease.number + 1] })).toBe(2)
      })

      test('keep deliveries that were leased after they listed theirs', async () => {
        const before = newLease(worker)
        const unheld = await logout('alice', { leased: true, lease: before })
        const held = await logout('bob', { leased: true, lease: newLease(worker) })
        const request = { workerId: worker, asking: [], held: [], upTo: before.number }
        expect(await ledger.releaseUnheld(request)).toBe(2)
        expect(await Promise.all([...unheld, ...held].map(stateOf))).toEqual([
          ...['pending', 'pending', 'in_flight', 'in_flight'],
        ])
        expect(await ledger.releaseUnheld({ ...request, upTo: before.number + 1 })).toBe(2)
      })

      test('end the leases that they name without a lookup, unless the count of deliveries is wrong', async () => {
        const lease = newLease(worker)
        await logout('alice', { leased: true, lease })
        const request = { workerId: worker, asking: [], held: [], upTo: LAST_LEASE }
        const ended = (deliveries: number) => [{ number: lease.number, deliveries }]
        // The lease has two deliveries, so the count is wrong. It stays, and is examined when it is not named.
        expect(await ledger.releaseUnheld({ ...request, ended: ended(1) })).toBe(0)
        expect(await ledger.releaseUnheld(request)).toBe(2)
        const again = newLease(worker)
        const [one, two] = await logout('bob', { leased: true, lease: again })
        await settle(one)
        await settle(two)
        expect(
          await ledger.releaseUnheld({ ...request, ended: [{ number: again.number, deliveries: 2 }] }),
        ).toBe(0)
        expect(await ledger.releaseUnheld(request)).toBe(0)
        expect(await Promise.all([one, two].map(stateOf))).toEqual(['acknowledged', 'acknowledged'])
      })

      test('keep a delivery that they released and leased again', async () => {
        const lease = newLease(worker)
        const [one, two] = await logout('alice', { leased: true, lease })
        await ledger.releaseDeliveries({ ids: [one.id], workerId: worker })
        const again = newLease(worker)
        await harness.age(1)
        expect(idsOf(await claim({ lease: again }))).toEqual([one.id])
        const request = { workerId: worker, asking: [again.number], held: [two.id], upTo: LAST_LEASE }
        expect(await ledger.releaseUnheld(request)).toBe(0)
        expect(await stateOf(one)).toBe('in_flight')
      })

      test('lose all their deliveries when they are declared dead, however old the leases are', async () => {
        const held = await logout('alice', { leased: true })
        await harness.age(40 * 86_400_000)
        expect(await ledger.reclaimLeases({ leaseMs: LEASE_MS })).toBe(2)
        expect(await Promise.all(held.map(stateOf))).toEqual(['pending', 'pending'])
      })
    })

    describe('breakers', () => {
      const open = async () =>
        (await harness.breakers())
          .map(({ bindingId, workerId }) => `${bindingId} ${workerId === worker ? 'mine' : 'another'}`)
          .toSorted()
      const note = (workerId: WorkerId, opened: readonly BindingId[], closed: readonly BindingId[] = []) =>
        ledger.noteBreakers({ workerId, opened, closed })

      test('are opened once by each worker, and closed for all by one answer', async () => {
        const [one, two] = bindingIds() as [BindingId, BindingId]
        const another = await newWorker()
        await note(worker, [one, two])
        await note(worker, [one])
        await note(another, [one])
        expect(await open()).toEqual([`${one} another`, `${one} mine`, `${two} mine`])
        await note(another, [two], [one])
        expect(await open()).toEqual([`${two} another`, `${two} mine`])
        await note(worker, [one])
        expect(await open()).toContain(`${one} mine`)
      })

      test('disappear with their worker, and a dead worker can only close breakers', async () => {
        const [one, two] = bindingIds() as [BindingId, BindingId]
        const silent = await newWorker()
        await note(silent, [one])
        await harness.age(LEASE_MS + 1)
        await ledger.beat(worker)
        await note(worker, [one, two])
        await ledger.reclaimLeases({ leaseMs: LEASE_MS })
        expect(await open()).toEqual([`${one} mine`, `${two} mine`])
        await note(silent, [one], [two])
        expect(await open()).toEqual([`${one} mine`])
        await ledger.retireWorker(worker)
        expect(await open()).toEqual([])
      })
    })

    test('the registry gets a new revision with every change, and a binding is disabled once', async () => {
      const [one] = bindingIds()
      if (one === undefined) throw new Error('expected a binding')
      const uri = registry.bindings.get(one)?.uri ?? ''
      // The owner has replaced this URI, so its answer disables nothing.
      await ledger.disableBinding(one, { uri: `${uri}/before`, reason: 'moved' })
      expect(await ledger.readRegistry()).toEqual(registry)
      await ledger.disableBinding(one, { uri, reason: 'gone' })
      const disabled = await ledger.readRegistry()
      expect(disabled.revision).toBeGreaterThan(registry.revision)
      expect(await ledger.readRegistryRevision()).toBe(disabled.revision)
      expect(disabled.bindings.get(one)?.disabledReason).toBe('gone')
      expect(disabled.issuers.get(ISS)?.bindings).toHaveLength(2)
      await ledger.disableBinding(one, { uri, reason: 'gone for good' })
      expect(await ledger.readRegistry()).toEqual(disabled)
      await harness.registerParty('late')
      expect((await ledger.readRegistry()).issuers.get(ISS)?.bindings).toHaveLength(3)
      expect(await ledger.readRegistryRevision()).toBeGreaterThan(disabled.revision)
    })
  })
}
