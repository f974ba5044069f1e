import { hash } from 'node:crypto'
import { encodeLogoutEvent } from '@curfew/contract'
import {
  type Binding,
  type BindingId,
  DEFAULT_RELAY,
  eventIdOf,
  type GivenEventId,
  type Issuer,
  type IssuerName,
  type Lane,
  type LogoutEvent,
  type Subject,
  uuidV7,
  type WorkerId,
} from '@curfew/domain'
import type { KnownIssuer, PlanRequest, Registry } from '@curfew/ledger'
import { createLog } from '@curfew/runtime'
import { expect, test, vi } from 'vitest'
import { createBulkPace } from '../dispatch/bulk-pace.ts'
import type { IssuerShares } from '../dispatch/issuer-shares.ts'
import { createIntake } from './intake.ts'

// Goal: a mass logout at one issuer does not delay logouts of people at another. Method: the intakes of both lanes share one
// pace, which never lets the bulk lane continue.

const MASS = 'https://mass.example' as Issuer
const PEOPLE = 'https://people.example' as Issuer
const digest = (text: string) => hash('sha256', text)

let made = 0
function record(iss: Issuer, lane: Lane) {
  made += 1
  const givenId = uuidV7(new Date(made), new Uint8Array(10)) as GivenEventId
  const event: LogoutEvent = {
    ...{ id: eventIdOf(iss, givenId, digest), givenId, iss, sub: `person-${made}` as Subject, sid: null },
    ...{ scope: 'subject', reason: 'user', initiator: null, includeInitiator: false, clients: null, lane },
    ...{ occurredAt: new Date(0), acceptedAt: new Date(0) },
  }
  return { ...encodeLogoutEvent(event, ''), position: String(made) }
}

function issuerWith(iss: Issuer, count: number): KnownIssuer {
  const bindings = Array.from({ length: count }, (_, n) => {
    const named = { iss, issuer: 'main' as IssuerName, fallbackFor: null }
    const binding = { id: (n + 1) as BindingId, clientId: `client-${n}`, ...named }
    return { offer: null, ...binding } as unknown as Binding
  })
  return {
    bindings,
    sessionIndex: 'partial',
    sessionIssuer: null,
    relay: DEFAULT_RELAY,
    networks: { allowedNetworks: null },
  }
}

test('a batch of interactive logouts does not wait for the pace of a mass logout', async () => {
  const registry: Registry = {
    revision: 1,
    issuers: new Map([
      [MASS, issuerWith(MASS, 2_500)],
      [PEOPLE, issuerWith(PEOPLE, 20)],
    ]),
    bindings: new Map(),
  }
  const planned: Issuer[] = []
  // The clock stands still, so the pace never allows more.
  const pace = createBulkPace({ utilization: () => 0, monotonicMs: () => 0 })
  const stop = new AbortController()
  let paceWaits = 0
  const intakeOf = (lane: Lane) =>
    createIntake({
      ledger: {
        findSessions: async () => new Map(),
        async planEvents({ batch }: PlanRequest) {
          planned.push(...batch.map(({ event }) => event.iss))
          const ids = new Set(batch.map(({ event }) => event.id))
          return { ok: true, planned: ids, conflicts: new Set(), needless: new Set() }
        },
      },
      log: createLog({ service: 'test', level: 'silent' }),
      messages: { seal: async (message) => message },
      relayedTokens: { verify: async () => ({ ok: true, claims: {} as never }) },
      registry: { current: () => registry, refresh: async () => undefined } as never,
      worker: {
        leasing: (work: (lease: unknown) => unknown) => work({ workerId: 'w' as WorkerId, number: 1 }),
      } as never,
      announcer: { announce: () => undefined },
      lane,
      dispatcher: { room: () => 0, acceptAll: async () => undefined },
      holdings: {
        free: 0,
        isUnavailable: () => false,
        shares: { roomOf: () => 0 } as unknown as IssuerShares,
        waitForRoom: async () => undefined,
      },
      bulkPace: {
        ready(stopping) {
          paceWaits += 1
          return pace.ready(stopping)
        },
        spend: () => undefined,
      },
      unknownIssuers: { inc: () => undefined },
      stopping: stop.signal,
      now: () => new Date(0),
    })
  let slow = 0
  const bulk = intakeOf('bulk')
  const mass = Promise.all(
    // The number of batches that the event log hands out at a time.
    Array.from({ length: 18 }, () => bulk([record(MASS, 'bulk'), record(MASS, 'bulk')], () => slow++)),
  )
  await vi.waitFor(() => expect([slow, paceWaits]).toEqual([18, 1]))
  // 150 events with 20 deliveries make two statements.
  const people = Array.from({ length: 150 }, () => record(PEOPLE, 'interactive'))
  await intakeOf('interactive')(people, () => undefined)
  expect(planned).toEqual(people.map(() => PEOPLE))
  stop.abort()
  await mass
  expect(planned.filter((iss) => iss === MASS)).toHaveLength(36)
})
