import type { AttemptOutcome, Binding, InFlightDelivery, Settlement } from '@curfew/domain'
import { createLog, type LogLevel } from '@curfew/runtime'
import { expect, test } from 'vitest'
import type { Round, Try } from '../attempt/attempt.ts'
import { createRoundLog } from './round-log.ts'

// Goal: an operator reads from one line what one attempt came to, and nothing that an RP answers gets a subject into the log.

const DELIVERY = {
  id: 'd1',
  bindingId: 7,
  sid: 'session-of-alice',
  attempts: 0,
  event: {
    givenId: 'e1',
    iss: 'https://idp.example',
    sub: 'alice',
    email: 'al.liddell@corp.example',
    traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  },
} as unknown as InFlightDelivery
const BINDING = { issuer: 'main', clientId: 'mail' } as Binding
const URI = 'https://user:hunter2@rp.example:8443/logout?secret=hunter2'
const ACKNOWLEDGED: AttemptOutcome = { kind: 'acknowledged', level: 'done', status: 200 }
const refused = (error: string | null): AttemptOutcome => ({
  ...{ kind: 'refused', status: 400, error },
  errorDescription: 'no session of alice',
})
const PENDING: Settlement = {
  ...{ state: 'pending', retries: 1, refusals: 0 },
  dueAt: new Date('2026-11-21T05:00:00Z'),
}

function logged(
  outcomes: readonly AttemptOutcome[],
  settlement: Settlement,
  { recorded = true, level = 'info' }: { recorded?: boolean; level?: LogLevel } = {},
): readonly Record<string, unknown>[] {
  const lines: Record<string, unknown>[] = []
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) }
  const bindings = new Map([[DELIVERY.bindingId, BINDING]])
  const logRound = createRoundLog({
    log: createLog({ service: 'delivery', level, destination }),
    registry: { current: () => ({ revision: 1, issuers: new Map(), bindings }) },
  })
  const attempts = outcomes.map(
    (outcome, index) => ({ number: index + 1, durationMs: 12.4, uri: URI, outcome }) as Try,
  )
  logRound(DELIVERY, { attempts, settlement, channel: 'backchannel' } as unknown as Round, recorded)
  return lines
}

test('an acknowledged attempt is one line with its issuer, client, endpoint, outcome and trace', () => {
  const [line, ...more] = logged([ACKNOWLEDGED], { state: 'acknowledged', level: 'done' })
  expect(more).toEqual([])
  expect(line).toEqual({
    ...{ level: 'info', time: expect.any(String), service: 'delivery', event: 'delivery.attempted' },
    ...{ delivery_id: 'd1', event_id: 'e1', issuer: 'main', iss: 'https://idp.example' },
    ...{ client_id: 'mail', binding_id: 7, channel: 'backchannel' },
    trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
    endpoint: 'https://rp.example:8443/logout',
    ...{ attempt: 1, outcome: 'acknowledged', status: 200, error: null, duration_ms: 12 },
    ...{ state: 'acknowledged', reason: null, due_at: null, recorded: true },
  })
})

test('each attempt of a round has its line, and only the last one says what becomes of the delivery', () => {
  const unavailable: AttemptOutcome = {
    ...{ kind: 'unavailable', status: null, failure: 'connection_refused', retryAfterMs: null },
    ...{ error: null, errorDescription: 'connect ECONNREFUSED' },
  }
  expect(logged([unavailable, ACKNOWLEDGED], { state: 'acknowledged', level: 'done' })).toMatchObject([
    { level: 'warn', attempt: 1, outcome: 'unavailable', error: 'connection_refused', state: null },
    { level: 'info', attempt: 2, outcome: 'acknowledged', state: 'acknowledged' },
  ])
  expect(logged([unavailable], PENDING)).toMatchObject([
    { level: 'warn', state: 'pending', due_at: '2026-11-21T05:00:00.000Z' },
  ])
  expect(logged([refused(null)], { state: 'dead_lettered', reason: 'refused' })).toMatchObject([
    { level: 'error', state: 'dead_lettered', reason: 'refused', error: 'http_400' },
  ])
})

test('an acknowledgement that the ledger did not store is a warning', () => {
  expect(logged([ACKNOWLEDGED], { state: 'acknowledged', level: 'done' }, { recorded: false })).toMatchObject(
    [{ level: 'warn', outcome: 'acknowledged', recorded: false }],
  )
})

test('at level warn only acknowledgements are left out', () => {
  const level = 'warn'
  expect(logged([ACKNOWLEDGED], { state: 'acknowledged', level: 'done' }, { level })).toEqual([])
  expect(logged([refused(null)], PENDING, { level })).toHaveLength(1)
})

test('a delivery that lapsed without an attempt has one line', () => {
  expect(logged([], { state: 'lapsed' })).toMatchObject([
    { level: 'info', event: 'delivery.lapsed', delivery_id: 'd1', state: 'lapsed' },
  ])
})

test.each([
  ['the code of an RP', 'invalid_request', 'invalid_request'],
  ['the subject', 'alice', 'http_400'],
  ['the subject in a code', 'unknown_user_Alice', 'http_400'],
  ['the sid', 'session-of-alice', 'http_400'],
  ['a name from the email address', 'unknown_liddell', 'http_400'],
  ['an identifier', 'a81bc81b-dead-4e5d-abff-90865d1e13b1', 'http_400'],
  ['a sentence', 'no such session', 'http_400'],
  ['a token', 'eyJhbGciOiJFUzI1NiJ9.e30.c2ln', 'http_400'],
  ['a flood', 'a'.repeat(500), 'http_400'],
])('an RP that answers %s', (_, said, error) => {
  const [line] = logged([refused(said)], PENDING)
  expect(line).toMatchObject({ error })
  expect(JSON.stringify(line)).not.toMatch(/alice|liddell|hunter2/i)
})
