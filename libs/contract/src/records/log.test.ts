import { hash } from 'node:crypto'
import type { ClientId, GivenEventId, Issuer, LogoutEvent, LogoutReason, Sid, Subject } from '@curfew/domain'
import { eventIdOf } from '@curfew/domain'
import { createValidator } from '@curfew/runtime'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AcceptedLogoutEvent } from '../api/logout-event.ts'
import { decodeLogoutEvent, encodeLogoutEvent, LOGOUT_EVENT_TYPE } from './log.ts'

// Goal: intake reads every event that ingest writes without loss. A record that is not a logout event gives a reason, and no
// exception.
// Method: decodes generated events of every scope and damaged records, with the validator that intake uses.

const check = createValidator(AcceptedLogoutEvent)
const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

const ascii = (unit: string) => fc.string({ unit: fc.constantFrom(...unit), minLength: 1, maxLength: 255 })
const PRINTABLE = Array.from({ length: 95 }, (_, index) => String.fromCharCode(32 + index)).join('')
const clientIds = ascii(PRINTABLE).map((text) => text as ClientId)
const subs = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 60 })
  .filter((text) => text.length <= 255 && text.isWellFormed() && !/\p{Cc}/u.test(text))
  .map((text) => text as Subject)
const sids = ascii(PRINTABLE).map((text) => text as Sid)
const instants = fc.date({ min: new Date(0), max: new Date('9999-12-31'), noInvalidDate: true })
const digest = (text: string) => hash('sha256', text)
const asserted = fc
  .record({
    givenId: fc.uuid().map((id) => id as GivenEventId),
    iss: ascii(PRINTABLE.replaceAll(/[ #?]/g, '')).map((path) => `https://${path}` as Issuer),
    reason: fc.option(
      fc.constantFrom<LogoutReason>('user', 'admin', 'policy', 'compromise', 'expiry', 'deletion', 'audit'),
    ),
    initiator: fc.option(clientIds),
    includeInitiator: fc.boolean(),
    clients: fc.option(fc.uniqueArray(clientIds, { minLength: 1, maxLength: 5 })),
    lane: fc.constantFrom('interactive' as const, 'bulk' as const),
    occurredAt: instants,
    acceptedAt: instants,
    email: fc.option(fc.emailAddress()),
  })
  .map(({ email, ...event }) => ({ ...event, ...(email !== null && { email }) }))
  .map((event) => ({ ...event, id: eventIdOf(event.iss, event.givenId, digest) }))
const events: fc.Arbitrary<LogoutEvent> = fc.oneof(
  fc
    .tuple(asserted, sids, fc.option(subs))
    .map(([rest, sid, sub]): LogoutEvent => ({ ...rest, scope: 'session', sid, sub })),
  fc
    .tuple(asserted, fc.option(sids), subs)
    .map(([rest, sid, sub]): LogoutEvent => ({ ...rest, scope: 'subject', sid, sub })),
  fc
    .tuple(asserted, fc.option(sids), subs, subs)
    .map(([rest, sid, sub, device]): LogoutEvent => ({ ...rest, scope: 'device', sid, sub, device })),
)

const ACCEPTED = {
  id: '01938C2E-0000-7000-8000-000000000001',
  iss: 'https://idp.example',
  sid: 's1',
  sub: 'u1',
  scope: 'session',
  occurred_at: '2026-11-21T11:59:58.000Z',
  lane: 'interactive',
  accepted_at: '2026-11-21T12:00:00.000Z',
}
const recordOf = (value: unknown, type: string | undefined = LOGOUT_EVENT_TYPE) => ({
  value: value instanceof Uint8Array ? value : new TextEncoder().encode(JSON.stringify(value)),
  headers: type === undefined ? {} : { ce_type: type },
})
const reasonOf = (record: ReturnType<typeof recordOf>) => {
  const event = decodeLogoutEvent(record as Parameters<typeof decodeLogoutEvent>[0], check, digest)
  return 'unreadable' in event ? event.unreadable : event
}

describe('encode, then decode', () => {
  test('gives the same event for every event', () => {
    fc.assert(
      fc.property(events, (event) => {
        expect(decodeLogoutEvent(encodeLogoutEvent(event, TRACEPARENT), check, digest)).toEqual(event)
      }),
    )
  })

  test('the record has the lane and key of the event, and the CloudEvents attributes and trace context in headers', () => {
    const event = decodeLogoutEvent(recordOf(ACCEPTED), check, digest)
    if ('unreadable' in event) return expect.fail(event.unreadable)
    expect(encodeLogoutEvent(event, TRACEPARENT)).toMatchObject({
      lane: 'interactive',
      key: '["https://idp.example","u1"]',
      headers: {
        ce_specversion: '1.0',
        ce_id: '01938c2e-0000-7000-8000-000000000001',
        ce_source: 'https://idp.example',
        ce_type: 'curfew.logout-event.v1',
        ce_time: '2026-11-21T12:00:00.000Z',
        'content-type': 'application/json',
        traceparent: TRACEPARENT,
      },
    })
  })
})

describe('a record without a logout event gives the reason', () => {
  const { sid: _sid, ...withoutSid } = ACCEPTED
  const { accepted_at: _acceptedAt, ...withoutAcceptedAt } = ACCEPTED
  const { sub: _sub, ...withoutSub } = ACCEPTED

  test.each([
    ['another type', recordOf(ACCEPTED, 'curfew.logout-event.v2'), /ce_type is curfew\.logout-event\.v2/],
    ['no type', { ...recordOf(ACCEPTED), headers: {} }, /ce_type is absent/],
    ['bytes that are not UTF-8', recordOf(new Uint8Array([0x22, 0xff, 0x22])), /not JSON in UTF-8/],
    ['text that is not JSON', recordOf(new TextEncoder().encode('{"id":')), /not JSON in UTF-8/],
    ['no bytes', recordOf(new Uint8Array()), /not JSON in UTF-8/],
    ['JSON that is not an object', recordOf(['x']), /^the value /],
    ['a missing member', recordOf(withoutAcceptedAt), /accepted_at/],
    ['a member of the wrong type', recordOf({ ...ACCEPTED, sub: 7 }), /^\/sub /],
    ['an unknown member', recordOf({ ...ACCEPTED, extra: 1 }), /extra/],
    ['scope session without its session', recordOf(withoutSid), /^\/sid is missing/],
    ['scope device without its device', recordOf({ ...ACCEPTED, scope: 'device' }), /^\/device is missing/],
    ['scope subject without its subject', recordOf({ ...withoutSub, scope: 'subject' }), /^\/sub is missing/],
    [
      'a month that does not exist',
      recordOf({ ...ACCEPTED, occurred_at: '2026-13-01T00:00:00Z' }),
      /^\/occurred_at must be an RFC 3339 time/,
    ],
    [
      'a day that does not exist',
      recordOf({ ...ACCEPTED, accepted_at: '2026-02-30T00:00:00Z' }),
      /^\/accepted_at is not a time that exists/,
    ],
  ])('%s', (_, record, reason) => {
    expect(reasonOf(record as ReturnType<typeof recordOf>)).toEqual(expect.stringMatching(reason))
  })

  test('arbitrary bytes give a reason, never an exception', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((json) => new TextEncoder().encode(json)),
        ),
        (value) => {
          expect(reasonOf(recordOf(value))).toEqual(expect.any(String))
        },
      ),
    )
  })

  test('an id in upper case is the same id as in lower case', () => {
    const lower = { ...ACCEPTED, id: ACCEPTED.id.toLowerCase() }
    const event = decodeLogoutEvent(recordOf(ACCEPTED), check, digest)
    expect(event).toEqual(decodeLogoutEvent(recordOf(lower), check, digest))
    expect(event).toMatchObject({
      givenId: '01938c2e-0000-7000-8000-000000000001',
    })
  })
})
