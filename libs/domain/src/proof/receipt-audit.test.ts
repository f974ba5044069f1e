import { describe, expect, test } from 'vitest'
import type { ReceiptClaims } from './receipt.ts'
import { contradictions } from './receipt-audit.ts'

// Goal: an altered row contradicts its receipt, and what was forgotten in due time does not.

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
  ['nothing', receipt, []],
  [
    'the person',
    { ...receipt, event: { ...receipt.event, sub: 'bob' } },
    ['event: sub was "alice", and is "bob"'],
  ],
  [
    'how it ended',
    withTarget({ state: 'dead_lettered' }),
    ['target mail/backchannel/main: state was "acknowledged", and is "dead_lettered"'],
  ],
  [
    'the token',
    withTarget({ token_sha256: 'y' }),
    ['target mail/backchannel/main: token_sha256 was "x", and is "y"'],
  ],
  [
    'a delivery taken away',
    { ...receipt, targets: [] },
    ['target mail/backchannel/main is settled no more, or gone'],
  ],
  [
    'another one',
    { ...receipt, targets: [...receipt.targets, ...withTarget({ client_id: 'wiki' }).targets] },
    ['target wiki/backchannel/main is not on the receipt'],
  ],
  [
    'the first attempt taken away',
    withTarget({ first_attempt_at: undefined }),
    ['target mail/backchannel/main: first_attempt_at was "t0", and is not given'],
  ],
])('%s', (_, today, found) => {
  // As it comes out of JSON: what is undefined is not there.
  expect(contradictions(receipt, JSON.parse(JSON.stringify(today)))).toEqual(found)
})

describe('a receipt that a newer one stands for', () => {
  const dead = withTarget({ state: 'dead_lettered', level: undefined, reason: 'refused' })
  const late = withTarget({ client_id: 'late' }).targets
  const told = (then: ReceiptClaims, today: ReceiptClaims) =>
    contradictions(then, JSON.parse(JSON.stringify(today)) as ReceiptClaims, true)

  test('leaves open what became of a dead letter that was replayed, and who else was told', () => {
    expect(told(dead, { ...receipt, targets: [] })).toEqual([])
    expect(told(dead, withTarget({ replays: 1 }))).toEqual([])
    expect(told(receipt, { ...receipt, targets: [...receipt.targets, ...late] })).toEqual([])
  })

  test('holds for all else', () => {
    expect(told(receipt, { ...receipt, event: { ...receipt.event, sub: 'bob' } })).toHaveLength(1)
    expect(told(receipt, { ...receipt, targets: [] })).toEqual([
      'target mail/backchannel/main is settled no more, or gone',
    ])
    expect(told(receipt, withTarget({ replays: 1 }))).toHaveLength(1)
    expect(told(dead, receipt)).not.toEqual([])
  })
})
