import type { Binding, ConsumedRecord, Issuer, LogoutEvent } from '@curfew/domain'
import { DEFAULT_RELAY } from '@curfew/domain'
import type { Registry } from '@curfew/ledger'
import { createLog } from '@curfew/runtime'
import type { RelayedTokens } from '@curfew/wiring'
import { describe, expect, test } from 'vitest'
import { partsOf } from './parts.ts'
import type { Incoming } from './read-batch.ts'
import { verifyRelayed } from './relayed.ts'

// Goal: no event is planned before its token is verified, and no logout is lost meanwhile.

const ISS = 'https://idp.example' as Issuer
const AT = new Date('2026-11-21T05:00:00Z')
const networks = { allowedNetworks: null }
const registryWith = (widen: boolean): Registry => ({
  revision: 1,
  issuers: new Map([
    [
      ISS,
      {
        ...{ bindings: [], sessionIndex: 'partial', sessionIssuer: null, networks },
        relay: { ...DEFAULT_RELAY, widen },
      },
    ],
  ]),
  bindings: new Map(),
})
let serial = 0

function incoming(over: object): Incoming & { readonly record: ConsumedRecord } {
  const id = `e${++serial}`
  const event = { id, iss: ISS, sid: 's1', sub: 'u1', scope: 'session', acceptedAt: AT, ...over }
  return {
    event: event as unknown as LogoutEvent,
    digest: id,
    record: { key: 'k', position: id } as never,
    traceparent: null,
  }
}
const relayedFor = (clientId: string, verified = true) =>
  incoming({ relayed: { clientId, token: `token of ${clientId}`, verified }, clients: [clientId] })

const GOOD = { ok: true, claims: {} as never } as const
type Result = Awaited<ReturnType<RelayedTokens['verify']>>
async function verify(events: readonly Incoming[], result: Result, registry = registryWith(false)) {
  const asked: unknown[] = []
  let slow = 0
  const outcome = await verifyRelayed(
    {
      relayedTokens: {
        async verify(source, token, at) {
          asked.push({ source, token, at })
          return result
        },
      },
      registry: { current: () => registry, refresh: async () => undefined },
      log: createLog({ service: 'test', level: 'silent' }),
    },
    events,
    () => {
      slow += 1
    },
  )
  return { ...outcome, asked, slow }
}

describe('an event with a token that the relay could not verify', () => {
  test('is verified as of its acceptance, by the settings of its issuer', async () => {
    const event = relayedFor('mail', false)
    const { verified, quarantined, asked, slow } = await verify([event], GOOD)
    expect([verified, quarantined, slow]).toEqual([[event], [], 1])
    expect(asked).toEqual([
      {
        source: { iss: ISS, clientId: 'mail', relay: DEFAULT_RELAY, networks },
        ...{ token: 'token of mail', at: AT },
      },
    ])
  })

  test.each([
    ['invalid', 'forged', 'the logout token for mail is not valid: why'],
    ['unavailable', 'unverified', 'the logout token could not be verified: why'],
  ] as const)(
    'is quarantined if the verification is %s, and others are planned',
    async (kind, as, reason) => {
      const [good, bad] = [relayedFor('wiki'), relayedFor('mail', false)]
      const { verified, quarantined } = await verify([good, bad], { ok: false, kind, description: 'why' })
      expect(verified).toEqual([good])
      expect(quarantined).toEqual([{ record: bad.record, kind: as, reason }])
    },
  )

  test('is quarantined if its issuer is not registered', async () => {
    const nowhere = { revision: 1, issuers: new Map(), bindings: new Map() }
    const { quarantined, asked } = await verify([relayedFor('mail', false)], GOOD, nowhere)
    expect(quarantined).toMatchObject([{ kind: 'unverified', reason: expect.stringContaining(ISS) }])
    expect(asked).toEqual([])
  })
})

test('a batch without such tokens is verified without a query', async () => {
  const events = [relayedFor('mail'), incoming({ clients: null })]
  expect(await verify(events, GOOD)).toMatchObject({ verified: events, slow: 0, asked: [] })
})

describe('events that may be one logout by different ways', () => {
  const sizes = (events: readonly Incoming[], widen = false) =>
    partsOf(events, registryWith(widen)).map(({ events: part }) => part.length)

  test('are in one statement if they are about different clients', () => {
    expect(sizes([relayedFor('mail'), relayedFor('wiki')])).toEqual([2])
  })

  test('are in different statements if both may be delivered to one client', () => {
    expect(sizes([relayedFor('mail'), relayedFor('wiki')], true)).toEqual([1, 1])
    expect(sizes([relayedFor('mail'), incoming({ clients: null })])).toEqual([1, 1])
    expect(sizes([incoming({ clients: null }), incoming({ clients: null })])).toEqual([2])
  })
})

test('a relayed event of an issuer that widens counts as a fan-out to all its relying parties', () => {
  const registry = (widen: boolean): Registry => {
    const known = registryWith(widen)
    const issuers = [...known.issuers].map(([iss, issuer]) => {
      return [iss, { ...issuer, bindings: new Array<Binding>(3_000) }] as const
    })
    return { ...known, issuers: new Map(issuers) }
  }
  const sizeOf = (widen: boolean) => partsOf([relayedFor('mail')], registry(widen)).map(({ size }) => size)
  expect([sizeOf(false), sizeOf(true)]).toEqual([[1], [3_000]])
})
