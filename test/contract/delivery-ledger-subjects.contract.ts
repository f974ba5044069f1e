import { hash, randomUUID } from 'node:crypto'
import {
  type ClientId,
  type InFlightDelivery,
  type LogoutEvent,
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

// Goal: both ledgers keep the `sub` that a delivery names, and find the sessions of a user under all names.
// Method: the same steps with each. rp-0 is public, rp-1 and rp-2 are pairwise: they know alice as alice1 and alice2.

const NO_SUB: Settlement = { state: 'dead_lettered', reason: 'sub_required' }
const sha256 = (text: string) => hash('sha256', text)
const before = new Date(Date.now() - 60_000)
/** Later than the logouts of every test of a slow machine. */
const later = new Date(Date.now() + 1_800_000)

export function subjectContract(name: string, openHarness: () => Promise<DeliveryLedgerHarness>): void {
  describe(`${name} keeps the contract of subjects`, () => {
    let harness: DeliveryLedgerHarness
    let worker: WorkerId
    beforeAll(async () => {
      harness = await openHarness()
    })
    afterAll(() => harness.close())
    beforeEach(async () => {
      await harness.reset()
      await harness.useIndex('complete')
      await harness.registerParty('rp-2')
      await harness.makePairwise('rp-1', 'rp-2')
      worker = randomUUID() as WorkerId
      await harness.ledger.registerWorker({ id: worker, name: 'test' })
    })

    /** Starts sessions. `rp-1:alice1/s1` is the session s1 of rp-1 under the sub alice1. */
    async function start(text: string, startedAt = before): Promise<void> {
      for (const one of text.split(' ')) {
        const [, clientId, sub, sid] = /^(.+):(.+)\/(.+)$/.exec(one) ?? []
        const session: Session = {
          ...{ iss: ISS, sub: sub as Subject, sid: sid as Sid, clientId: clientId as ClientId, device: null },
          ...{ startedAt, startedStated: true, acceptedAt: startedAt },
          expiresAt: new Date(Date.now() + 3_600_000),
        }
        await harness.startSession(session)
        await harness.ledger.oweLateLogouts([session])
      }
    }
    async function logout(change: Partial<Record<keyof LogoutEvent, unknown>>) {
      const event = { ...newEvent({ sub: 'alice' }), ...change } as LogoutEvent
      const registry = await harness.ledger.readRegistry()
      const issuer = registry.issuers.get(ISS)
      if (issuer === undefined) throw new Error('expected an issuer')
      const pairwise = issuer.pairwise != null
      const asked = issuer.sessionIssuer === null ? [] : [{ event, issuer: issuer.sessionIssuer, pairwise }]
      const sessions = (await harness.ledger.findSessions(asked)).get(event.id) ?? []
      const { basis, deliveries } = plan(event, issuer, { kind: 'known', sessions }, sha256)
      const batch = [
        {
          ...planFor(event, []),
          basis,
          deliveries: deliveries.map(({ doubtful, ...each }) => ({ ...each, leased: doubtful !== true })),
        },
      ]
      const request = { batch, lease: newLease(worker), now: new Date() }
      await harness.ledger.planEvents({ ...request, registryRevision: registry.revision })
      await harness.projectIndex()
      return deliveries.map(({ delivery }) => delivery)
    }
    /** Deliveries as `client:sub/sid`: `?` if no sub is named, `*` if no sid is. */
    async function named(deliveries: readonly InFlightDelivery[]): Promise<string> {
      const { bindings } = await harness.ledger.readRegistry()
      return deliveries
        .map(({ bindingId, sid, event }) => {
          return `${bindings.get(bindingId)?.clientId}:${event.sub ?? '?'}/${sid ?? '*'}`
        })
        .toSorted()
        .join(' ')
    }
    async function settle(deliveries: readonly InFlightDelivery[], settlement?: Settlement): Promise<void> {
      const batch = deliveries.map((delivery) => settledAs(delivery, settlement))
      await harness.ledger.settleDeliveries({ batch, workerId: worker, now: new Date() })
      await harness.projectIndex()
    }
    const claim = () =>
      harness.ledger.claimDue({
        ...{ lease: newLease(worker), now: new Date(Date.now() + 10_000), slots: new Map(), limit: 100 },
        otherSlots: { interactive: 100, bulk: 100 },
      })
    /** The sessions of alice under all names, as `client:sub/sid`, with their state. */
    async function indexed(): Promise<string> {
      const found: string[] = []
      for (const sub of ['alice', 'alice1', 'alice2', 'bob']) {
        for (const { clientId, sid, logoutEventId, orphaned } of await harness.sessions(sub)) {
          const state = logoutEventId === null ? '' : orphaned ? '!' : '+'
          found.push(`${clientId}:${sub}/${sid}${state}`)
        }
      }
      return found.join(' ')
    }

    test('a logout of a subject ends the sessions that share a sid with it, under the sub of each pairwise client', async () => {
      await start('rp-0:alice/s1 rp-1:alice1/s1 rp-1:alice1/s2 rp-2:alice2/s2 rp-0:bob/s3')
      const deliveries = await logout({})
      const all = 'rp-0:alice/s1 rp-1:alice1/s1 rp-1:alice1/s2 rp-2:alice2/s2'
      expect(await named(deliveries)).toBe(all)
      expect(await indexed()).toBe(`${all.replaceAll(/(?= |$)/g, '+')} rp-0:bob/s3`)
      await settle(deliveries)
      expect(await indexed()).toBe('rp-0:bob/s3')
    })

    test('a session of another user at a public client is not ended, although it has the same sid', async () => {
      await start('rp-0:alice/s1 rp-0:bob/s1')
      await settle(await logout({}))
      expect(await indexed()).toBe('rp-0:bob/s1')
    })

    test('a logout of a pairwise sub ends the sessions of its user at all clients', async () => {
      await start('rp-0:alice/s1 rp-0:alice/s4 rp-1:alice1/s1 rp-2:alice2/s1')
      const deliveries = await logout({ sub: 'alice1' })
      expect(await named(deliveries)).toBe('rp-0:alice/s1 rp-0:alice/s4 rp-1:alice1/s1 rp-2:alice2/s1')
      await settle(deliveries)
      expect(await indexed()).toBe('')
    })

    test('a claimed delivery names its own sub, or none', async () => {
      await start('rp-0:alice/s1 rp-1:alice1/s1')
      await harness.useIndex('partial')
      const deliveries = await logout({ scope: 'session', sid: 's1' })
      await harness.ledger.releaseDeliveries({ ids: deliveries.map(({ id }) => id), workerId: worker })
      expect(await named(await claim())).toBe('rp-0:alice/s1 rp-1:alice1/s1 rp-2:?/s1')
    })

    test('a delivery for a pairwise subject is narrowed to the sessions that began before the logout', async () => {
      await harness.useIndex('partial')
      await start('rp-0:alice/s1 rp-1:alice1/s1')
      const deliveries = await logout({ sid: 's1' })
      expect(await named(deliveries)).toBe('rp-0:alice/* rp-1:alice1/* rp-2:?/s1')
      await start('rp-1:alice1/s2', later)
      await harness.ledger.releaseDeliveries({ ids: deliveries.map(({ id }) => id), workerId: worker })
      const claimed = await claim()
      expect(await named(claimed)).toBe('rp-0:alice/* rp-2:?/s1')
      const narrowed = await claim()
      expect(await named(narrowed)).toBe('rp-1:alice1/s1')
      await settle([...claimed, ...narrowed])
      expect(await indexed()).toBe('rp-1:alice1/s2')
    })

    test('a pairwise session that is posted late is owed a delivery that names its sub', async () => {
      await start('rp-0:alice/s1')
      await logout({})
      await start('rp-1:alice1/s1')
      expect(await named(await claim())).toBe('rp-1:alice1/s1')
      expect(await indexed()).toBe('rp-0:alice/s1+ rp-1:alice1/s1+')
    })

    test('an event that names its session finds a pairwise session that is posted after all others are over', async () => {
      await start('rp-0:alice/s1')
      await settle(await logout({ sid: 's1' }))
      await start('rp-1:alice1/s1')
      expect(await named(await claim())).toBe('rp-1:alice1/s1')
    })

    test('a pairwise session that began after the logout is kept', async () => {
      await start('rp-0:alice/s1')
      await logout({})
      await start('rp-1:alice1/s1', later)
      expect(await claim()).toEqual([])
      expect(await indexed()).toBe('rp-0:alice/s1+ rp-1:alice1/s1')
    })

    test('a delivery that died without a sub is put back once a session makes the sub known', async () => {
      await harness.registerParty('rp-0', [{ kind: 'backchannel', fallbackFor: null, names: 'subject' }])
      await start('rp-1:alice1/s9')
      const deliveries = await logout({ scope: 'session', sid: 's1', sub: null, clients: ['rp-0'] })
      expect(await named(deliveries)).toBe('rp-0:?/s1')
      await settle(deliveries, NO_SUB)
      await start('rp-0:alice/s1')
      const again = await claim()
      expect(await named(again)).toBe('rp-0:alice/s1')
      expect(again.map(({ id }) => id)).toEqual(deliveries.map(({ id }) => id))
      await settle(again)
      expect(await indexed()).toBe('rp-1:alice1/s9')
    })

    test('a fallback names the sub of the dead letter that it replaces', async () => {
      await harness.registerParty('rp-1', [
        { kind: 'backchannel', fallbackFor: null },
        { kind: 'paper', fallbackFor: 'backchannel' },
      ])
      await harness.makePairwise('rp-1')
      await start('rp-1:alice1/s1')
      const deliveries = await logout({ scope: 'session', sid: 's1', clients: ['rp-1'] })
      await settle(deliveries, { state: 'dead_lettered', reason: 'refused' })
      expect(await named(await claim())).toBe('rp-1:alice1/s1')
    })
  })
}
