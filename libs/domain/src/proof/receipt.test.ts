import { describe, expect, test } from 'vitest'
import { LEVELS } from '../delivery/level.ts'
import { receiptClaims, type SettledEvent, type SettledTarget } from './receipt.ts'

// Goal: a receipt says what was requested, how every delivery ended, and whether the SLA was kept. It reveals no more of the
// subject than the operator wants.
// Method: the claims of single events.

const at = (seconds: number) => new Date(Date.UTC(2026, 10, 21, 5, 0, seconds))
const event: SettledEvent = {
  id: '01938c2e-0000-8000-8000-000000000000',
  givenId: '01938c2e-0000-7000-8000-000000000000',
  iss: 'https://idp.example',
  sub: 'alice',
  sid: 's-1',
  device: null,
  scope: 'session',
  reason: 'user',
  initiator: null,
  clients: null,
  occurredAt: at(0),
  acceptedAt: at(0),
  plannedAt: at(0),
  planBasis: 'registered',
}
const mail: SettledTarget = {
  clientId: 'mail',
  channel: 'backchannel',
  fallbackFor: null,
  endpoint: 'main',
  sid: 's-1',
  state: 'acknowledged',
  level: 'done',
  reason: null,
  attempts: 1,
  generation: 0,
  settledMs: at(1).getTime(),
  firstAttemptMs: at(0).getTime(),
  status: 200,
  tokenDigest: 'digest',
  evidence: null,
  withinMs: 5_000,
  counts: 'done',
}
const dead: SettledTarget = {
  ...mail,
  clientId: 'chat',
  state: 'dead_lettered',
  level: null,
  reason: 'refused',
  status: 403,
}
const OTHER = { channel: 'global_revocation' }
const STANDS_IN = { fallbackFor: 'backchannel' }
const place = { origin: 'curfew.example/log', index: 7, replaces: null, issuedAt: at(2), jti: 'random' }
const plain = { place, withinMs: 5_000, keyedHash: null }

describe('a receipt', () => {
  test('contains an event and its targets, in a fixed order', () => {
    expect(receiptClaims(event, [mail, dead], plain)).toEqual({
      iss: 'curfew.example/log',
      iat: at(2).getTime() / 1_000,
      jti: 'random',
      event: {
        id: event.givenId,
        iss: 'https://idp.example',
        sub: 'alice',
        sid: 's-1',
        scope: 'session',
        reason: 'user',
        occurred_at: '2026-11-21T05:00:00.000Z',
        accepted_at: '2026-11-21T05:00:00.000Z',
        planned_at: '2026-11-21T05:00:00.000Z',
        plan_basis: 'registered',
      },
      targets: [
        {
          client_id: 'chat',
          channel: 'backchannel',
          endpoint: 'main',
          sid: 's-1',
          state: 'dead_lettered',
          reason: 'refused',
          attempts: 1,
          first_attempt_at: '2026-11-21T05:00:00.000Z',
          settled_at: '2026-11-21T05:00:01.000Z',
          elapsed_ms: 1_000,
          status: 403,
          kept: false,
        },
        {
          client_id: 'mail',
          channel: 'backchannel',
          endpoint: 'main',
          sid: 's-1',
          state: 'acknowledged',
          level: 'done',
          attempts: 1,
          first_attempt_at: '2026-11-21T05:00:00.000Z',
          settled_at: '2026-11-21T05:00:01.000Z',
          elapsed_ms: 1_000,
          status: 200,
          token_sha256: 'digest',
          kept: true,
        },
      ],
      sla: { within_ms: 5_000, kept: false },
      log: { origin: 'curfew.example/log', index: 7 },
    })
  })

  test('contains no plain name if subjects are hashed, not even in the targets', () => {
    const claims = receiptClaims(event, [mail], { ...plain, keyedHash: (value) => `hash of ${value.length}` })
    expect(claims.event).toMatchObject({ sub_hmac: 'hash of 5', sid_hmac: 'hash of 3' })
    expect(JSON.stringify(claims)).not.toMatch(/alice|s-1/)
  })

  test.each([
    ['a delivery in time', [mail], true],
    ['a delivery at the time limit', [{ ...mail, settledMs: at(5).getTime() }], true],
    ['a late delivery', [{ ...mail, settledMs: at(6).getTime() }], false],
    ['a superseded delivery', [{ ...mail, state: 'superseded' as const, level: null }], true],
    ['a replayed delivery', [{ ...mail, generation: 1 }], false],
    [
      'a delivery within its own longer limit',
      [{ ...mail, settledMs: at(6).getTime(), withinMs: 6_000 }],
      true,
    ],
    ['one delivery of two beyond its own limit', [mail, { ...mail, withinMs: 500 }], false],
    ['no delivery', [], true],
    ['an acknowledgement below the required level', [{ ...mail, level: 'begun' as const }], false],
    [
      'an acknowledgement at the required level',
      [{ ...mail, level: 'begun' as const, counts: 'begun' as const }],
      true,
    ],
    [
      'an acknowledgement by one of two required channels',
      [mail, { ...dead, ...OTHER, clientId: 'mail' }],
      false,
    ],
    [
      'an acknowledgement by a fallback',
      [
        { ...dead, clientId: 'mail' },
        { ...mail, ...OTHER, ...STANDS_IN },
      ],
      true,
    ],
    ["an acknowledgement by another client's fallback", [dead, { ...mail, ...OTHER, ...STANDS_IN }], false],
  ])('says whether the SLA was kept, for %s', (_, targets, kept) => {
    expect(receiptClaims(event, targets, plain).sla).toEqual({ within_ms: 5_000, kept })
  })

  test('has no SLA if the issuer has none', () => {
    expect(receiptClaims(event, [], { ...plain, withinMs: null })).not.toHaveProperty('sla')
  })

  test("contains a target's own time limit if it differs from the issuer's", () => {
    const { targets } = receiptClaims(event, [mail, { ...dead, withinMs: 500 }], plain)
    expect(targets.map(({ within_ms }) => within_ms)).toEqual([500, undefined])
  })

  test.each(LEVELS)(
    'contains the level %s of an acknowledgement, and the required level if it differs',
    (level) => {
      const { targets } = receiptClaims(event, [{ ...mail, level }], plain)
      expect(targets[0]).toMatchObject({ level, channel: 'backchannel', kept: level === 'done' })
      expect(targets[0]?.counts).toBe(level === 'done' ? undefined : 'done')
    },
  )

  test('names the channel, and the channel that it is a fallback for', () => {
    const { targets } = receiptClaims(event, [mail, { ...mail, ...OTHER, ...STANDS_IN }], plain)
    expect(targets.map(({ channel, fallback_for }) => [channel, fallback_for])).toEqual([
      ['backchannel', undefined],
      ['global_revocation', 'backchannel'],
    ])
  })

  test('names the receipt that it replaces', () => {
    const claims = receiptClaims(event, [mail], { ...plain, place: { ...place, replaces: 0 } })
    expect(claims.replaces).toBe(0)
  })
})
