import { hash } from 'node:crypto'
import { Writable } from 'node:stream'
import { encodeLogoutEvent } from '@curfew/contract'
import {
  type Binding,
  type BindingId,
  type ClientId,
  DEFAULT_RELAY,
  type Digest,
  type EventId,
  eventIdOf,
  type GivenEventId,
  type Issuer,
  LedgerUnavailableError,
  type LogoutEvent,
  type Sid,
  type Subject,
  type WorkerId,
} from '@curfew/domain'
import type { DeliveryLedger, Lease, PlanRequest, Registry } from '@curfew/ledger'
import { createLog } from '@curfew/runtime'
import { expect, test } from 'vitest'
import type { IssuerShares } from '../dispatch/issuer-shares.ts'
import { createIntake } from './intake.ts'
import { createRegistryCache } from './registry-cache.ts'

// Goal: constant changes of the registry delay no logout. Method: a registry that changes with every read, and a ledger that
// refuses a plan from an outdated registry.

const ISS = 'https://idp.example' as Issuer
const GIVEN = '01938c2e-0000-7000-8000-000000000001' as GivenEventId
const digest: Digest = (text) => hash('sha256', text)
const EVENT = {
  id: eventIdOf(ISS, GIVEN, digest),
  givenId: GIVEN,
  iss: ISS,
  sub: 'alice' as Subject,
  sid: 's1' as Sid,
  scope: 'session',
  reason: 'user',
  initiator: null,
  includeInitiator: false,
  clients: null,
  lane: 'interactive',
  occurredAt: new Date(0),
  acceptedAt: new Date(0),
  sessionEndsAt: null,
} as unknown as LogoutEvent
const RELAY = {
  messages: { seal: async (message: string) => `sealed ${message}` },
  relayedTokens: { verify: async () => ({ ok: true, claims: {} as never }) as const },
}
const WORKER = 'w1' as WorkerId
/** The binding that the dispatcher knows to be unavailable. */
const UNAVAILABLE = 200

/**
 * Creates an intake over a ledger in memory.
 *
 * @param most the number of events that the ledger can write within its statement timeout.
 * @param conflicts ids that the ledger has with different content.
 * @param bindingAt returns the n-th binding of an issuer.
 */
function rig({
  most = Number.POSITIVE_INFINITY,
  conflicts = new Set<EventId>(),
  bindings = new Map<Issuer, number>([[ISS, 0]]),
  bindingAt = (n: number): Partial<Binding> => ({
    ...{ id: (n + 1) as BindingId, clientId: `client-${n}` as ClientId, fallbackFor: null },
  }),
} = {}) {
  let revision = 0
  const plans: PlanRequest[] = []
  const read = (): Registry => ({
    revision: revision++,
    issuers: new Map(
      [...bindings].map(([iss, count]) => [
        iss,
        {
          bindings: Array.from({ length: count }, (_, n) => ({ offer: null, ...bindingAt(n) }) as Binding),
          sessionIndex: 'partial',
          sessionIssuer: null,
          relay: DEFAULT_RELAY,
          networks: { allowedNetworks: null },
        },
      ]),
    ),
    bindings: new Map(),
  })
  const ledger: Pick<
    DeliveryLedger,
    'findSessions' | 'planEvents' | 'readRegistry' | 'readRegistryRevision'
  > = {
    readRegistry: async () => read(),
    readRegistryRevision: async () => revision,
    findSessions: () =>
      Promise.reject(new Error('the session index is off for this issuer and must not be queried')),
    async planEvents(request) {
      if (plans.push(request) > 10) throw new Error('the plan was tried more than 10 times')
      const { registryRevision, batch } = request
      if (batch.length > most) {
        const cause = Object.assign(new Error('canceling statement due to statement timeout'), {
          code: '57014',
        })
        throw new LedgerUnavailableError('PostgreSQL is not available', { cause })
      }
      if (registryRevision !== null && registryRevision !== revision)
        return { ok: false, why: 'registry_changed' }
      const ids = batch.map(({ event }) => event.id)
      return {
        ok: true,
        planned: new Set(ids.filter((id) => !conflicts.has(id))),
        conflicts,
        needless: new Set(),
      }
    },
  }
  const lines: unknown[] = []
  const unknown: number[] = []
  const destination = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()))
      done()
    },
  })
  const log = createLog({ service: 'test', level: 'warn', destination })
  const registry = createRegistryCache({ ledger, log, pollMs: 1_000 })
  const intake = createIntake({
    ledger,
    log,
    registry,
    ...RELAY,
    worker: {
      id: () => WORKER,
      leasing: (work: (lease: Lease) => Promise<unknown>) => work({ workerId: WORKER, number: 1 }),
    } as never,
    announcer: { announce: () => undefined },
    lane: 'interactive',
    dispatcher: { room: () => 1, acceptAll: async () => undefined },
    holdings: {
      free: 1,
      isUnavailable: (id) => id === UNAVAILABLE,
      shares: { roomOf: () => 1 } as unknown as IssuerShares,
      waitForRoom: async () => undefined,
    },
    bulkPace: { ready: async () => undefined, spend: () => undefined },
    unknownIssuers: { inc: (events: number) => void unknown.push(events) } as never,
    stopping: new AbortController().signal,
    now: () => new Date(0),
  })
  return { intake, plans, registry, lines, unknown }
}

test('an event is planned by any registry that was read after the event arrived', async () => {
  const { intake, plans, registry } = rig()
  await registry.refresh()
  const record = { ...encodeLogoutEvent(EVENT, ''), position: '0' }
  expect(await intake([record], () => undefined)).toEqual([])
  expect(plans.map(({ registryRevision }) => registryRevision)).toEqual([0, null])
  // Every event needs its own read: an older copy may lack a client that was registered before the event.
  await intake([record], () => undefined)
  expect(plans[2]?.registryRevision).toBe(1)
})

test('a logout with the id of another logout is quarantined and logged', async () => {
  const { intake, registry, lines } = rig({ conflicts: new Set([EVENT.id]) })
  await registry.refresh()
  const reason = `event ${GIVEN} of ${ISS} was already accepted with different content`
  const record = { ...encodeLogoutEvent(EVENT, ''), position: '7' }
  expect(await intake([record], () => undefined)).toEqual([{ record, kind: 'conflict', reason }])
  expect(lines).toMatchObject([{ event: 'event.quarantined', position: '7', reason }])
})

test('a logout of an unregistered issuer is logged and counted once', async () => {
  const { intake, registry, lines, unknown } = rig()
  await registry.refresh()
  const iss = 'https://slip.example' as Issuer
  const record = { ...encodeLogoutEvent({ ...EVENT, iss }, ''), position: '1' }
  expect(await intake([record], () => undefined)).toEqual([])
  expect(unknown).toEqual([1])
  expect(lines).toMatchObject([{ event: 'events.unknown-issuer', events: 1, issuers: [iss] }])
  await intake([{ ...encodeLogoutEvent(EVENT, ''), position: '2' }], () => undefined)
  expect(unknown).toEqual([1])
})

test('a fan-out to thousands is one statement, comes after other issuers and lets other batches continue', async () => {
  const other = 'https://other.example' as Issuer
  const { intake, plans, registry } = rig({
    bindings: new Map([
      [ISS, 5_000],
      [other, 2],
    ]),
  })
  await registry.refresh()
  const events = [EVENT, { ...EVENT, iss: other }]
  const records = events.map((event, n) => ({ ...encodeLogoutEvent(event, ''), position: String(n) }))
  const plansBeforeSlow: number[] = []
  await intake(records, () =>
    plansBeforeSlow.push(plans.filter(({ registryRevision }) => registryRevision === null).length),
  )
  const written = plans.filter(({ registryRevision }) => registryRevision === null)
  expect(written.map(({ batch }) => batch.map(({ event }) => event.iss))).toEqual([[other], [ISS]])
  expect(plansBeforeSlow).toEqual([1])
  const [, large] = written
  expect(large?.batch[0]?.deliveries).toHaveLength(5_000)
  expect(new Set(large?.batch[0]?.deliveries.map(({ delivery }) => delivery.bindingId)).size).toBe(5_000)
  expect(large?.batch[0]?.basis).toBe('registered')
})

test('a fallback is planned together with the channel before it, even at an issuer with many bindings', async () => {
  // Relying party n has the bindings 2n and 2n + 1. An issuer of this size is planned in slices of about 100 bindings.
  const bindingAt = (n: number): Partial<Binding> => ({
    ...{ id: (n + 1) as BindingId, clientId: `client-${Math.ceil(n / 2)}` as ClientId, disabledReason: null },
    ...(n % 2 === 1 ? { kind: 'first', fallbackFor: null } : { kind: 'second', fallbackFor: 'first' }),
  })
  const { intake, plans, registry } = rig({ bindings: new Map([[ISS, 401]]), bindingAt })
  await registry.refresh()
  await intake([{ ...encodeLogoutEvent(EVENT, ''), position: '0' }], () => undefined)
  const owed = plans[0]?.batch[0]?.deliveries.map(({ delivery }) => delivery.bindingId)
  const required = Array.from({ length: 200 }, (_, n) => 2 * n + 2)
  // Binding 1 is a fallback for a channel that its relying party does not have.
  expect(owed?.toSorted((a, b) => a - b)).toEqual([1, ...required, UNAVAILABLE + 1].toSorted((a, b) => a - b))
})

test('the same id at two issuers is two events, even in one batch', async () => {
  const { intake, plans, registry } = rig()
  await registry.refresh()
  const twin = { ...EVENT, iss: 'https://twin.example' as Issuer, sub: 'bob' as Subject } as LogoutEvent
  const records = [EVENT, twin].map((event, n) => ({ ...encodeLogoutEvent(event, ''), position: String(n) }))
  expect(await intake(records, () => undefined)).toEqual([])
  const planned = plans.at(-1)?.batch.map(({ event: { id, givenId, sub } }) => ({ id, givenId, sub }))
  expect(planned).toEqual([
    { id: EVENT.id, givenId: GIVEN, sub: 'alice' },
    { id: eventIdOf(twin.iss, GIVEN, digest), givenId: GIVEN, sub: 'bob' },
  ])
})

test('a batch that exceeds the statement timeout is written in parts', async () => {
  const { intake, plans, registry } = rig({ most: 1 })
  await registry.refresh()
  const records = [1, 2, 3].map((n) => {
    const event = { ...EVENT, givenId: `${GIVEN.slice(0, -1)}${n}` as GivenEventId }
    return { ...encodeLogoutEvent(event, ''), position: String(n) }
  })
  expect(await intake(records, () => undefined)).toEqual([])
  const written = plans
    .filter(({ batch }) => batch.length === 1)
    .map(({ batch }) => batch[0]?.event.givenId.at(-1))
  expect([...new Set(written)]).toEqual(['1', '2', '3'])
})

test('an earlier read of the registry that answers later does not replace a newer one', async () => {
  const reads: ((registry: Registry) => void)[] = []
  const registry = createRegistryCache({
    ledger: {
      readRegistry: () => new Promise((resolve) => reads.push(resolve)),
      readRegistryRevision: async () => 0,
    },
    log: createLog({ service: 'test', level: 'silent' }),
    pollMs: 1_000,
  })
  const both = [registry.refresh(), registry.refresh()]
  for (const revision of [2, 1]) reads.pop()?.({ revision, issuers: new Map(), bindings: new Map() })
  await Promise.all(both)
  expect(registry.current().revision).toBe(2)
})

test('a restored database with a lower registry revision is accepted', async () => {
  let revision = 9
  const registry = createRegistryCache({
    ledger: {
      readRegistry: async () => ({ revision, issuers: new Map(), bindings: new Map() }),
      readRegistryRevision: async () => revision,
    },
    log: createLog({ service: 'test', level: 'silent' }),
    pollMs: 1_000,
  })
  await registry.refresh()
  revision = 3
  await registry.refresh()
  expect(registry.current().revision).toBe(3)
})
