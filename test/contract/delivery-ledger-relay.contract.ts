import { randomUUID } from 'node:crypto'
import {
  type AttemptOutcome,
  type Binding,
  type ClientId,
  type InFlightDelivery,
  type LogoutEvent,
  type Sid,
  type Subject,
  type WorkerId,
  widened,
} from '@curfew/domain'
import type { DeliveryLedger } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { both, ISS, newEvent, newLease, planFor, settledAs } from '../integration/ledger-support.ts'
import type { DeliveryLedgerHarness } from './delivery-ledger-harness.ts'

// Goal: a logout that comes by several ways is delivered once to each binding, and none is lost. A forwarded token is sent once.
// Method: one session, the relay for two clients, and the API, in each order. The same tests run against each ledger.

const SID = 's1' as Sid
const LEASE_MS = 10_000
const DOWN: AttemptOutcome = {
  kind: 'unavailable',
  status: 503,
  failure: null,
  retryAfterMs: null,
  error: null,
  errorDescription: null,
}

interface Way {
  /** The client that the IdP addressed its token to. Absent: the event was posted. */
  readonly relayedFor?: string
  /** Whether the event is about all clients. Default: about `relayedFor` only. */
  readonly widen?: boolean
  readonly change?: Partial<LogoutEvent>
  readonly leased?: boolean
}

export function relayContract(name: string, openHarness: () => Promise<DeliveryLedgerHarness>): void {
  describe(`${name} delivers a logout that comes by several ways once`, () => {
    let harness: DeliveryLedgerHarness
    let ledger: DeliveryLedger
    let worker: WorkerId

    beforeAll(async () => {
      harness = await openHarness()
    })
    afterAll(() => harness.close())
    beforeEach(async () => {
      await harness.reset()
      ledger = harness.ledger
      worker = await newWorker()
    })

    async function newWorker(): Promise<WorkerId> {
      const id = randomUUID() as WorkerId
      await ledger.registerWorker({ id, name: 'test' })
      return id
    }
    async function bindings(): Promise<readonly Binding[]> {
      return (await ledger.readRegistry()).issuers.get(ISS)?.bindings ?? []
    }
    const clientAt = async (n: number) => (await bindings())[n]?.clientId ?? ''

    /** Plans a logout of the session. @returns its deliveries, and the ids of those that are needless. */
    async function logout({ relayedFor, widen = false, change = {}, leased = true }: Way) {
      const session = { ...newEvent({ sub: 'alice' }), scope: 'session', sid: SID, ...change } as LogoutEvent
      const relayed = { clientId: relayedFor as ClientId, token: 'token of the IdP', verified: true }
      const event =
        relayedFor === undefined
          ? session
          : widened({ ...session, relayed, clients: [relayedFor as ClientId] }, { widen })
      const made = planFor(event, await bindings(), { leased })
      const deliveries = made.deliveries.map((owed) => {
        const own = event.relayed !== undefined && owed.dueAt === undefined
        const delivery = { ...owed.delivery, ...(own && { firstMessage: 'sealed token' }) }
        return { ...owed, delivery, leased: leased && owed.dueAt === undefined }
      })
      const result = await ledger.planEvents({
        ...{ batch: [{ ...made, deliveries }], lease: newLease(worker) },
        ...{ registryRevision: null, now: harness.now() },
      })
      if (!result.ok) throw new Error(result.why)
      return { deliveries: deliveries.map(({ delivery }) => delivery), needless: [...result.needless] }
    }
    const acknowledge = (...batch: readonly InFlightDelivery[]) =>
      ledger.settleDeliveries({
        batch: batch.map((one) => settledAs(one)),
        workerId: worker,
        now: harness.now(),
      })
    const fail = (delivery: InFlightDelivery) => {
      const pending = { state: 'pending', dueAt: harness.now(), retries: 1, refusals: 0 } as const
      const batch = [settledAs(delivery, pending, [DOWN])]
      return ledger.settleDeliveries({ batch, workerId: worker, now: harness.now() })
    }
    const rowOf = async ({ id }: Pick<InFlightDelivery, 'id'>) => {
      const row = (await harness.rows()).find((each) => each.id === id)
      if (row === undefined) throw new Error(`no delivery ${id}`)
      return row
    }
    const claim = (at = harness.now()) =>
      ledger.claimDue({
        ...{ lease: newLease(worker), now: at, slots: new Map(), otherSlots: both(10), limit: 10 },
      })
    const only = ([one]: readonly InFlightDelivery[]): InFlightDelivery => {
      if (one === undefined) throw new Error('expected a delivery')
      return one
    }

    test('the token of each client of one session is delivered to its client', async () => {
      const first = await logout({ relayedFor: await clientAt(0) })
      const second = await logout({ relayedFor: await clientAt(1) })
      expect([first.deliveries.length, second.deliveries.length]).toEqual([1, 1])
      expect([first.needless, second.needless]).toEqual([[], []])
    })

    test('two tokens for one client and session are both delivered', async () => {
      const client = await clientAt(0)
      await acknowledge(...(await logout({ relayedFor: client })).deliveries)
      const again = await logout({ relayedFor: client })
      expect([again.deliveries.length, again.needless]).toEqual([1, []])
    })

    test.each([
      ['a posted logout follows a relayed one', 'relayed', 'posted'],
      ['a relayed logout follows a posted one', 'posted', 'relayed'],
    ])('is needless where the binding acknowledged within a minute: %s', async (_, before, after) => {
      const client = await clientAt(0)
      const way = (kind: string): Way =>
        kind === 'relayed' ? { relayedFor: client } : { change: { clients: [client as ClientId] } }
      const first = await logout(way(before))
      await acknowledge(...first.deliveries)
      const second = await logout(way(after))
      expect(second.needless).toEqual(second.deliveries.map(({ id }) => id))
      expect(await rowOf(only(second.deliveries))).toMatchObject({
        ...{ state: 'superseded', supersededBy: only(first.deliveries).id, leasedBy: null },
      })
    })

    test('is needed where the binding acknowledged more than a minute ago', async () => {
      const client = await clientAt(0)
      await acknowledge(...(await logout({ relayedFor: client })).deliveries)
      await harness.age(61_000)
      expect((await logout({ change: { clients: [client as ClientId] } })).needless).toEqual([])
    })

    test('is needed by a client whose session was posted again after the other logout', async () => {
      const client = await clientAt(0)
      const other = await logout({ relayedFor: client })
      await acknowledge(...other.deliveries)
      const event = { ...newEvent({ sub: 'alice' }), scope: 'session', sid: SID } as LogoutEvent
      const made = planFor(event, await bindings())
      const posted = made.deliveries.map((owed) => ({
        ...owed,
        postedAt: new Date(only(other.deliveries).event.acceptedAt.getTime() + 1),
      }))
      const result = await ledger.planEvents({
        ...{ batch: [{ ...made, deliveries: posted }], lease: newLease(worker) },
        ...{ registryRevision: null, now: harness.now() },
      })
      expect(result).toMatchObject({ ok: true, needless: new Set() })
    })

    test('is not needless for a logout that names only the subject', async () => {
      const client = await clientAt(0)
      await acknowledge(...(await logout({ relayedFor: client })).deliveries)
      const subject = await logout({ change: { scope: 'subject', sub: 'alice' as Subject, sid: null } })
      expect(subject.needless).toEqual([])
    })

    test('a widened delivery waits, and the own token of its client supersedes it', async () => {
      const [a, b] = [await clientAt(0), await clientAt(1)]
      const first = await logout({ relayedFor: a, widen: true })
      const [own, wide] = first.deliveries
      if (own === undefined || wide === undefined) throw new Error('expected two deliveries')
      expect(await claim(), 'a widened delivery is not due at once').toEqual([])
      await acknowledge(own)
      const second = await logout({ relayedFor: b, widen: true })
      const [toA, toB] = second.deliveries.toSorted((x, y) => x.bindingId - y.bindingId)
      if (toA === undefined || toB === undefined) throw new Error('expected two deliveries')
      expect(second.needless, 'a has acknowledged').toEqual([toA.id])
      expect(await rowOf(wide)).toMatchObject({ state: 'superseded', supersededBy: toB.id })
      expect(await rowOf(toB)).toMatchObject({ state: 'in_flight' })
    })

    test('a widened delivery does not wait for longer if the clock of ingest is ahead', async () => {
      const ahead = new Date(harness.now().getTime() + 3_600_000)
      const made = await logout({ relayedFor: await clientAt(0), widen: true, change: { acceptedAt: ahead } })
      expect(await claim()).toEqual([])
      const due = await claim(new Date(harness.now().getTime() + 5_000))
      expect(due.map(({ id }) => id)).toEqual([made.deliveries[1]?.id])
    })

    test('a widened delivery that waits makes a later widened one needless', async () => {
      const [a, b] = [await clientAt(0), await clientAt(1)]
      const first = await logout({ relayedFor: a, widen: true })
      const posted = await logout({ relayedFor: 'unregistered', widen: true })
      const toB = posted.deliveries.find(({ bindingId }) => bindingId === first.deliveries[1]?.bindingId)
      expect(b).not.toBe('')
      expect(posted.needless).toContain(toB?.id)
      const due = await claim(new Date(harness.now().getTime() + 5_000))
      expect(due.map(({ id }) => id)).toEqual([first.deliveries[1]?.id])
    })

    test('a delivery that is being attempted makes one by another way needless, but not the own token', async () => {
      const client = await clientAt(0)
      await logout({ change: { clients: [client as ClientId] } })
      expect((await logout({ relayedFor: client })).needless, 'the own token').toEqual([])
      const wide = await logout({ relayedFor: await clientAt(1), widen: true })
      const toFirst = wide.deliveries.find(({ bindingId }) => bindingId !== only(wide.deliveries).bindingId)
      expect(wide.needless.length, 'the widened delivery to the first client').toBe(1)
      expect(wide.deliveries.map(({ id }) => id)).toEqual(expect.arrayContaining(wide.needless))
      expect(toFirst).toBeDefined()
    })

    test('the own token of a client that waits stays, and makes a posted logout needless', async () => {
      const client = await clientAt(0)
      const own = await logout({ relayedFor: client, leased: false })
      const posted = await logout({ change: { clients: [client as ClientId] } })
      expect(posted.needless).toEqual(posted.deliveries.map(({ id }) => id))
      expect(await claim()).toMatchObject([{ id: only(own.deliveries).id, firstMessage: 'sealed token' }])
    })

    test('supersedes no waiting delivery that names a subject if it names none', async () => {
      const client = await clientAt(0)
      const first = await logout({ relayedFor: client })
      await fail(only(first.deliveries))
      await logout({ change: { sub: null, clients: [client as ClientId] } })
      expect(await rowOf(only(first.deliveries))).toMatchObject({ state: 'pending' })
    })

    test('supersedes a waiting delivery of the same session that another way named by other claims', async () => {
      const client = await clientAt(0)
      const first = await logout({ relayedFor: client, change: { sub: null } })
      await fail(only(first.deliveries))
      const second = await logout({ change: { clients: [client as ClientId] } })
      expect(await rowOf(only(first.deliveries))).toMatchObject({
        ...{ state: 'superseded', supersededBy: only(second.deliveries).id },
      })
    })

    describe('the first message', () => {
      test('stays with a delivery that was planned and not attempted', async () => {
        await logout({ relayedFor: await clientAt(0), leased: false })
        const [claimed] = await claim()
        expect(claimed).toMatchObject({ firstMessage: 'sealed token', attempts: 0 })
        await ledger.releaseDeliveries({
          ids: [only([claimed].flatMap((one) => one ?? []))].map(({ id }) => id),
          workerId: worker,
        })
        expect(await claim()).toMatchObject([{ firstMessage: 'sealed token' }])
      })

      test('is erased by the first attempt', async () => {
        const { deliveries } = await logout({ relayedFor: await clientAt(0) })
        await fail(only(deliveries))
        const [claimed] = await claim()
        expect(claimed).toMatchObject({ attempts: 1 })
        expect(claimed).not.toHaveProperty('firstMessage')
      })

      test('is erased if the worker dies, because the RP may have got it', async () => {
        await logout({ relayedFor: await clientAt(0) })
        await harness.age(2 * LEASE_MS)
        worker = await newWorker()
        expect(await ledger.reclaimLeases({ leaseMs: LEASE_MS })).toBe(1)
        const [claimed] = await claim()
        expect(claimed).toMatchObject({ attempts: 0 })
        expect(claimed).not.toHaveProperty('firstMessage')
      })

      test('stays if the worker ends by itself', async () => {
        await logout({ relayedFor: await clientAt(0) })
        const ended = worker
        worker = await newWorker()
        expect(await ledger.retireWorker(ended)).toBe(1)
        expect(await claim()).toMatchObject([{ firstMessage: 'sealed token' }])
      })

      test('is erased if the worker ends while attempts are running', async () => {
        await logout({ relayedFor: await clientAt(0) })
        const ended = worker
        worker = await newWorker()
        expect(await ledger.retireWorker(ended, { abandoned: true })).toBe(1)
        const [claimed] = await claim()
        expect(claimed).toMatchObject({ attempts: 0 })
        expect(claimed).not.toHaveProperty('firstMessage')
      })
    })

    test('every attempt repeats the txn of the IdP', async () => {
      await logout({ relayedFor: await clientAt(0), change: { txn: 'txn of the IdP' }, leased: false })
      expect(await claim()).toMatchObject([{ event: { txn: 'txn of the IdP' } }])
    })
  })
}
