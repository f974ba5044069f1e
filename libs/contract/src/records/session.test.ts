import type { ClientId, Issuer, Session, SessionChange, SessionEnd, Sid, Subject } from '@curfew/domain'
import { createValidator } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { AcceptedSession, AcceptedSessionEnd } from '../api/sessions.ts'
import {
  decodeSessionRecord,
  encodeSessionEnd,
  encodeSessionStart,
  SESSION_ENDED_TYPE,
  SESSION_STARTED_TYPE,
} from './session.ts'

// Goal: the session index reads every record that ingest writes without loss. Any other record gives a reason, and no exception.

const checks = { start: createValidator(AcceptedSession), end: createValidator(AcceptedSessionEnd) }
const STAMP = {
  id: '01938c2e-0000-7000-8000-000000000001',
  acceptedAt: new Date('2026-11-21T12:00:00.000Z'),
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
}
const SESSION: Session = {
  iss: 'https://idp.example' as Issuer,
  sub: 'älice' as Subject,
  sid: 's 1' as Sid,
  clientId: 'mail' as ClientId,
  device: 'phone',
  startedAt: new Date('2026-11-21T11:00:00.123Z'),
  startedStated: true,
  acceptedAt: STAMP.acceptedAt,
  expiresAt: new Date('2026-11-21T19:00:00.000Z'),
}
const END: SessionEnd = {
  iss: SESSION.iss,
  sid: SESSION.sid,
  clientId: SESSION.clientId,
  acceptedAt: STAMP.acceptedAt,
}

test.each<[string, SessionChange]>([
  ['a start', { kind: 'started', session: SESSION }],
  [
    'a start without a time from the IdP',
    {
      kind: 'started',
      session: { ...SESSION, startedAt: STAMP.acceptedAt, startedStated: false },
    },
  ],
  ['a start without a device', { kind: 'started', session: { ...SESSION, device: null } }],
  ['a start with an email', { kind: 'started', session: { ...SESSION, email: 'u1@example.com' } }],
  ['an end', { kind: 'ended', end: END }],
  ['an end at all clients', { kind: 'ended', end: { ...END, clientId: null } }],
])('%s is the same after encoding and decoding', (_name, change) => {
  const record =
    change.kind === 'started'
      ? encodeSessionStart(change.session, STAMP)
      : encodeSessionEnd(change.end, STAMP)
  expect(decodeSessionRecord(record, checks)).toEqual(change)
  expect(record).toMatchObject({
    lane: 'sessions',
    headers: {
      ce_specversion: '1.0',
      ce_id: STAMP.id,
      ce_source: SESSION.iss,
      ce_time: '2026-11-21T12:00:00.000Z',
      'content-type': 'application/json',
      traceparent: STAMP.traceparent,
    },
  })
})

const start = JSON.parse(new TextDecoder().decode(encodeSessionStart(SESSION, STAMP).value))
const end = JSON.parse(new TextDecoder().decode(encodeSessionEnd(END, STAMP).value))

test.each<[string, unknown, string | undefined, RegExp]>([
  ['without a type', start, undefined, /^ce_type is absent/],
  ['of another type', start, 'curfew.logout-event.v1', /^ce_type is curfew.logout-event.v1/],
  ['of the start type with an end', end, SESSION_STARTED_TYPE, /^\/sub /],
  ['of the end type with a start', start, SESSION_ENDED_TYPE, /^\/\w+ /],
  ['with a value that is not an object', 'x', SESSION_STARTED_TYPE, /^the value /],
  ['with an unknown member', { ...end, nonce: 1 }, SESSION_ENDED_TYPE, /^\/nonce /],
  [
    'that starts on a day that does not exist',
    { ...start, started_at: '2026-02-30T00:00:00Z' },
    SESSION_STARTED_TYPE,
    /^\/started_at/,
  ],
  [
    'that ends on a day that does not exist',
    { ...start, expires_at: '2027-02-30T00:00:00Z' },
    SESSION_STARTED_TYPE,
    /^\/expires_at/,
  ],
  [
    'that ends when it starts',
    { ...start, expires_at: start.started_at },
    SESSION_STARTED_TYPE,
    /^\/expires_at/,
  ],
])('a record %s gives the reason why it cannot be read', (_name, value, type, reason) => {
  const record = {
    value: new TextEncoder().encode(JSON.stringify(value)),
    headers: type === undefined ? {} : { ce_type: type },
  }
  expect(decodeSessionRecord(record as Parameters<typeof decodeSessionRecord>[0], checks)).toEqual({
    unreadable: expect.stringMatching(reason),
  })
})

test('the tokens of a session come back as they were sealed', () => {
  const session = { ...SESSION, sealedTokens: 'eyJ.sealed' }
  const record = encodeSessionStart(session, STAMP)
  expect(decodeSessionRecord(record, checks)).toEqual({ kind: 'started', session })
})

test('a record with tokens in plain text cannot be read', () => {
  const record = {
    value: new TextEncoder().encode(JSON.stringify({ ...start, revocation: [{ token: 't' }] })),
    headers: { ce_type: SESSION_STARTED_TYPE },
  }
  expect(decodeSessionRecord(record, checks)).toEqual({ unreadable: expect.stringMatching(/^\/revocation /) })
})

test('bytes that are not JSON give the reason', () => {
  const record = { value: new Uint8Array([0xff, 0xfe]), headers: { ce_type: SESSION_ENDED_TYPE } }
  expect(decodeSessionRecord(record, checks)).toEqual({ unreadable: 'the value is not JSON in UTF-8' })
})
