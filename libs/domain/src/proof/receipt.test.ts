import { describe, expect, test } from 'vitest'
import { LEVELS } from '../delivery/level.ts'
import { receiptClaims, type SettledEvent, type SettledTarget } from './receipt.ts'

// Goal: a receipt says what was asked, how it ended for everybody and whether it was in time, and of the person no more
// than the operator wants. Method: the claims of single events.

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
  test('says all of an event and its targets, in an order of its own', () => {
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

  test('names nobody where subjects are hashed, not in the targets either', () => {
    const claims = receiptClaims(event, [mail], { ...plain, keyedHash: (value) => `hash of ${value.length}` })
    expect(claims.event).toMatchObject({ sub_hmac: 'hash of 5', sid_hmac: 'hash of 3' })
    expect(JSON.stringify(claims)).not.toMatch(/alice|s-1/)
  })

  test.each([
    ['in time', [mail], true],
    ['at the last moment', [{ ...mail, settledMs: at(5).getTime() }], true],
    ['too late', [{ ...mail, settledMs: at(6).getTime() }], false],
    ['covered by a newer logout', [{ ...mail, state: 'superseded' as const, level: null }], true],
    ['only after a replay', [{ ...mail, generation: 1 }], false],
    [
      'later than others, as was promised for it',
      [{ ...mail, settledMs: at(6).getTime(), withinMs: 6_000 }],
      true,
    ],
    ['in time for others, not for one', [mail, { ...mail, withinMs: 500 }], false],
    ['by owing nothing', [], true],
    ['by an acknowledgement that says too little', [{ ...mail, level: 'begun' as const }], false],
    ['by as much as was asked', [{ ...mail, level: 'begun' as const, counts: 'begun' as const }], true],
    ['by one channel of two', [mail, { ...dead, ...OTHER, clientId: 'mail' }], false],
    [
      'by a fallback',
      [
        { ...dead, clientId: 'mail' },
        { ...mail, ...OTHER, ...STANDS_IN },
      ],
      true,
    ],
    ['by the fallback of another', [dead, { ...mail, ...OTHER, ...STANDS_IN }], false],
  ])('says whether the promise was kept: %s', (_, targets, kept) => {
    expect(receiptClaims(event, targets, plain).sla).toEqual({ within_ms: 5_000, kept })
  })

  test('promises nothing where nobody did', () => {
    expect(receiptClaims(event, [], { ...plain, withinMs: null })).not.toHaveProperty('sla')
  })

  test('says of a target what was promised for it where that is something else', () => {
    const { targets } = receiptClaims(event, [mail, { ...dead, withinMs: 500 }], plain)
    expect(targets.map(({ within_ms }) => within_ms)).toEqual([500, undefined])
  })

  test.each(LEVELS)('says of an acknowledgement that it is %s, and what would have counted', (level) => {
    const { targets } = receiptClaims(event, [{ ...mail, level }], plain)
    expect(targets[0]).toMatchObject({ level, channel: 'backchannel', kept: level === 'done' })
    expect(targets[0]?.counts).toBe(level === 'done' ? undefined : 'done')
  })

  test('names the channel, and the one that it stands in for', () => {
    const { targets } = receiptClaims(event, [mail, { ...mail, ...OTHER, ...STANDS_IN }], plain)
    expect(targets.map(({ channel, fallback_for }) => [channel, fallback_for])).toEqual([
      ['backchannel', undefined],
      ['global_revocation', 'backchannel'],
    ])
  })

  test('names the one that it replaces', () => {
    const claims = receiptClaims(event, [mail], { ...plain, place: { ...place, replaces: 0 } })
    expect(claims.replaces).toBe(0)
  })
})
