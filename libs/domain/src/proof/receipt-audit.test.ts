import { describe, expect, test } from 'vitest'
import type { ReceiptClaims } from './receipt.ts'
import { contradictions } from './receipt-audit.ts'

// Goal: the audit finds every alteration of a receipt's rows, and accepts the changes that a replay makes.
// Method: one altered member at a time.

const receipt: ReceiptClaims = {
  iss: 'log',
  iat: 0,
  jti: 'j',
  event: {
    id: 'e',
    iss: 'https://idp.example',
    sub: 'alice',
    scope: 'subject',
    occurred_at: 't0',
    accepted_at: 't0',
    planned_at: 't0',
    plan_basis: 'registered',
  },
  targets: [
    {
      client_id: 'mail',
      channel: 'backchannel',
      endpoint: 'main',
      state: 'acknowledged',
      level: 'done',
      attempts: 1,
      first_attempt_at: 't0',
      settled_at: 't1',
      elapsed_ms: 1,
      status: 200,
      token_sha256: 'x',
      kept: true,
    },
  ],
  log: { origin: 'log', index: 0 },
}
const [mail] = receipt.targets
const withTarget = (change: object): ReceiptClaims => ({
  ...receipt,
  targets: mail === undefined ? [] : [{ ...mail, ...change }],
})

test.each([
  ['no change', receipt, []],
  [
    'a changed subject',
    { ...receipt, event: { ...receipt.event, sub: 'bob' } },
    ['event: sub was "alice", and is "bob"'],
  ],
  [
    'a changed state',
    withTarget({ state: 'dead_lettered' }),
    ['target mail/backchannel/main: state was "acknowledged", and is "dead_lettered"'],
  ],
  [
    'a changed token',
    withTarget({ token_sha256: 'y' }),
    ['target mail/backchannel/main: token_sha256 was "x", and is "y"'],
  ],
  [
    'a removed delivery',
    { ...receipt, targets: [] },
    ['target mail/backchannel/main is missing or not settled'],
  ],
  [
    'an added delivery',
    { ...receipt, targets: [...receipt.targets, ...withTarget({ client_id: 'wiki' }).targets] },
    ['target wiki/backchannel/main is not on the receipt'],
  ],
  [
    'a removed first attempt',
    withTarget({ first_attempt_at: undefined }),
    ['target mail/backchannel/main: first_attempt_at was "t0", and is not given'],
  ],
])('the audit of a receipt reports %s', (_, today, found) => {
  // Through JSON, which removes undefined members.
  expect(contradictions(receipt, JSON.parse(JSON.stringify(today)))).toEqual(found)
})

describe('a receipt that a newer one replaces', () => {
  const dead = withTarget({ state: 'dead_lettered', level: undefined, reason: 'refused' })
  const late = withTarget({ client_id: 'late' }).targets
  const found = (then: ReceiptClaims, today: ReceiptClaims) =>
    contradictions(then, JSON.parse(JSON.stringify(today)) as ReceiptClaims, true)

  test('does not contradict replayed dead letters and added deliveries', () => {
    expect(found(dead, { ...receipt, targets: [] })).toEqual([])
    expect(found(dead, withTarget({ replays: 1 }))).toEqual([])
    expect(found(receipt, { ...receipt, targets: [...receipt.targets, ...late] })).toEqual([])
  })

  test('contradicts any other change', () => {
    expect(found(receipt, { ...receipt, event: { ...receipt.event, sub: 'bob' } })).toHaveLength(1)
    expect(found(receipt, { ...receipt, targets: [] })).toEqual([
      'target mail/backchannel/main is missing or not settled',
    ])
    expect(found(receipt, withTarget({ replays: 1 }))).toHaveLength(1)
    expect(found(dead, receipt)).not.toEqual([])
  })
})
