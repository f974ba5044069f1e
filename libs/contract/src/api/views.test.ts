import type { BindingId, DeliveryRecord, EventRecord } from '@curfew/domain'
import { createValidator } from '@curfew/runtime'
import { describe, expect, test } from 'vitest'
import { Delivery, LogoutEventStatus } from './common.ts'
import { deliveryView, eventView } from './views.ts'

const at = (second: number) => new Date(Date.UTC(2026, 10, 21, 12, 0, second))
const EVENT: EventRecord = {
  id: 'e1',
  givenId: 'e1',
  issuer: 'main',
  iss: 'https://idp.example',
  sub: 'u1',
  email: null,
  sid: null,
  scope: 'subject',
  device: null,
  reason: null,
  initiator: null,
  includeInitiator: false,
  clients: null,
  unregisteredClients: [],
  lane: 'interactive',
  occurredAt: at(0),
  acceptedAt: at(1),
  plannedAt: at(2),
  planBasis: 'registered',
  relayedFor: null,
  givenParentId: null,
  issuerLogout: null,
  erasedAt: null,
  strategy: null,
}
const DELIVERY: DeliveryRecord = {
  id: 'd1',
  eventId: 'e1',
  givenEventId: 'e1',
  bindingId: 1 as BindingId,
  issuer: 'main',
  clientId: 'mail',
  clientName: null,
  step: 'notify',
  channel: 'backchannel',
  fallbackFor: null,
  counts: 'done',
  endpoint: 'main',
  sid: null,
  sub: null,
  names: 'subject',
  lane: 'interactive',
  state: 'acknowledged',
  level: 'done',
  evidence: [],
  attemptCount: 1,
  deadLetterReason: null,
  supersededBy: null,
  generation: 0,
  plannedAt: at(2),
  dueAt: null,
  settledAt: at(5),
  sessionEndsAt: null,
  erasedAt: null,
  lastError: null,
  acceptedAt: at(1),
}
const DEAD: DeliveryRecord = {
  ...DELIVERY,
  id: 'd2',
  state: 'dead_lettered',
  level: null,
  deadLetterReason: 'refused',
  settledAt: at(9),
}
const WAITING: DeliveryRecord = {
  ...DELIVERY,
  id: 'd3',
  state: 'pending',
  level: null,
  settledAt: null,
  dueAt: at(30),
}

describe('deliveryView', () => {
  test('a delivery fits the schema of the API', () => {
    expect(
      [DELIVERY, DEAD, WAITING].flatMap((facts) => createValidator(Delivery)(deliveryView(facts))),
    ).toEqual([])
  })

  test('the elapsed time of a settled delivery begins at acceptance, not at planning', () => {
    expect(deliveryView(DELIVERY)).toMatchObject({
      elapsed_ms: 4_000,
      settled_at: '2026-11-21T12:00:05.000Z',
      due_at: null,
      links: { self: '/v1/deliveries/d1', event: '/v1/logout-events/e1?issuer=main' },
    })
  })

  test('a waiting delivery has a due time and no elapsed time', () => {
    expect(deliveryView(WAITING)).toMatchObject({
      elapsed_ms: null,
      settled_at: null,
      due_at: '2026-11-21T12:00:30.000Z',
    })
  })
})

describe('eventView', () => {
  test('an event fits the schema of the API', () => {
    const views = [eventView(EVENT, []), eventView(EVENT, [DELIVERY, WAITING])]
    expect(views.flatMap((view) => createValidator(LogoutEventStatus)(view))).toEqual([])
  })

  test('an event is in progress while one delivery waits', () => {
    expect(eventView(EVENT, [DELIVERY, WAITING])).toMatchObject({
      status: 'in_progress',
      acknowledged: 1,
      total: 2,
      settled_at: null,
      elapsed_ms: null,
    })
  })

  test('an event is settled with its last delivery, and a dead letter is not counted as acknowledged', () => {
    expect(eventView(EVENT, [DEAD, DELIVERY])).toMatchObject({
      status: 'settled',
      acknowledged: 1,
      total: 2,
      settled_at: '2026-11-21T12:00:09.000Z',
      elapsed_ms: 8_000,
    })
  })

  test('an event without deliveries is settled when it is planned', () => {
    expect(eventView({ ...EVENT, planBasis: 'unknown_issuer' }, [])).toMatchObject({
      status: 'settled',
      plan_basis: 'unknown_issuer',
      total: 0,
      settled_at: '2026-11-21T12:00:02.000Z',
      elapsed_ms: 1_000,
    })
  })
})
