import { hash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type BindingId,
  type Digest,
  deliveryId,
  deliveryIdRange,
  type EventId,
  eventIdOf,
  eventKeyOf,
  type GivenEventId,
  givenIdKeyOf,
  givenIdRange,
  type Issuer,
  type Sid,
  uuidV7,
} from './ids.ts'

const digest: Digest = (text) => hash('sha256', text)
const UUID_V8 = /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

const eventIds = fc.uuid().map((id) => id as EventId)
const bindingIds = fc.integer({ min: 1 }).map((id) => id as BindingId)
const sids = fc.option(fc.string({ minLength: 1 }).map((sid) => sid as Sid))
const owed = fc.tuple(eventIds, bindingIds, sids)
const instants = fc.date({ min: new Date(0), max: new Date('9999-12-31'), noInvalidDate: true })
const tenBytes = fc.uint8Array({ minLength: 10, maxLength: 10 })

const givenIds = fc.uuid().map((id) => id as GivenEventId)
const issuers = fc.webUrl().map((url) => url as Issuer)

describe('eventIdOf', () => {
  test('is a UUID of version 8 with the first 48 bits of the given id, for any hash', () => {
    const hashes = fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 32, maxLength: 64 })
    fc.assert(
      fc.property(issuers, givenIds, hashes, (iss, given, hex) => {
        const id = eventIdOf(iss, given, () => hex)
        const [low, high] = givenIdRange(given)
        expect(id).toMatch(UUID_V8)
        expect(id.slice(0, 13)).toBe(given.slice(0, 13))
        expect([low <= id && id <= high, low <= given && given <= high]).toEqual([true, true])
        expect(givenIdKeyOf(eventKeyOf(id))).toBe(givenIdKeyOf(given))
      }),
    )
  })

  test('is equal for the same issuer and given id, and different for any other pair', () => {
    const pairs = fc.tuple(issuers, givenIds)
    fc.assert(
      fc.property(pairs, pairs, (one, other) => {
        const same = JSON.stringify(one) === JSON.stringify(other)
        expect(eventIdOf(...one, digest) === eventIdOf(...other, digest)).toBe(same)
        expect(eventIdOf(other[0], one[1], digest) === eventIdOf(...one, digest)).toBe(one[0] === other[0])
      }),
    )
  })

  test('uses 74 bits of the hash, too many to search for a collision', () => {
    const given = '01938c2e-0000-7000-8000-000000000001' as GivenEventId
    const ids = new Set<string>()
    for (let bit = 0; bit < 128; bit++) {
      const hex = (1n << BigInt(bit)).toString(16).padStart(32, '0')
      ids.add(eventIdOf('https://idp.example' as Issuer, given, () => hex))
    }
    // One id for each used bit, and the all-zero id that every unused bit gives.
    expect(ids.size).toBe(75)
  })

  test('stays the same across releases', () => {
    const given = '01938c2e-0000-7000-8000-000000000001' as GivenEventId
    expect(eventIdOf('https://idp.example' as Issuer, given, digest)).toBe(
      '01938c2e-0000-8fd3-adac-6f32addb2d9d',
    )
  })
})

describe('deliveryId', () => {
  test('is a UUID of version 8 within the range of its event, for any hash', () => {
    const hashes = fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 32, maxLength: 64 })
    fc.assert(
      fc.property(owed, hashes, ([event, binding, sid], hex) => {
        const id = deliveryId(event, binding, sid, () => hex)
        const [low, high] = deliveryIdRange(event)
        expect(id).toMatch(UUID_V8)
        expect(id.slice(0, 13)).toBe(event.slice(0, 13))
        expect(low <= id && id <= high).toBe(true)
      }),
    )
  })

  test('lies outside the ranges of other events, unless they share the first 60 bits', () => {
    fc.assert(
      fc.property(owed, eventIds, ([event, binding, sid], other) => {
        fc.pre(event.slice(0, 13) !== other.slice(0, 13) || event.slice(15, 18) !== other.slice(15, 18))
        const id = deliveryId(event, binding, sid, digest)
        const [low, high] = deliveryIdRange(other)
        expect(low <= id && id <= high).toBe(false)
      }),
    )
  })

  test('has the same event key as its event, and no other event has that key', () => {
    fc.assert(
      fc.property(owed, eventIds, ([event, binding, sid], other) => {
        const key = eventKeyOf(deliveryId(event, binding, sid, digest))
        expect(key).toMatch(/^[0-9a-f]{15}$/)
        expect(key).toBe(eventKeyOf(event))
        fc.pre(event.slice(0, 18) !== other.slice(0, 14) + event.slice(14, 15) + other.slice(15, 18))
        expect(key).not.toBe(eventKeyOf(other))
      }),
    )
  })

  test('is equal for the same event, binding and session, and different for any other combination', () => {
    fc.assert(
      fc.property(owed, owed, (one, other) => {
        const same = JSON.stringify(one) === JSON.stringify(other)
        expect(deliveryId(...one, digest)).toBe(deliveryId(...one, digest))
        expect(deliveryId(...one, digest) === deliveryId(...other, digest)).toBe(same)
      }),
    )
  })

  test('differs between sessions, and between the session "null" and the subject', () => {
    const [event, binding] = ['01938c2e-0000-7000-8000-000000000001' as EventId, 7 as BindingId]
    const ids = [null, 'null', '', 'a', 'b'].map((sid) =>
      deliveryId(event, binding, sid as Sid | null, digest),
    )
    expect(new Set(ids).size).toBe(5)
  })

  test('stays the same across releases', () => {
    expect(deliveryId('01938c2e-0000-7000-8000-000000000001' as EventId, 7 as BindingId, null, digest)).toBe(
      '01938c2e-0000-8000-bb2d-6c901e8b6631',
    )
  })
})

describe('uuidV7', () => {
  test('contains its version, variant and time', () => {
    fc.assert(
      fc.property(instants, tenBytes, (now, random) => {
        const id = uuidV7(now, random)
        expect(id).toMatch(UUID_V7)
        expect(Number.parseInt(id.slice(0, 13).replace('-', ''), 16)).toBe(now.getTime())
      }),
    )
  })

  test('sorts by time, for any random part', () => {
    fc.assert(
      fc.property(instants, instants, tenBytes, tenBytes, (a, b, randomA, randomB) => {
        fc.pre(a.getTime() < b.getTime())
        expect(uuidV7(a, randomA) < uuidV7(b, randomB)).toBe(true)
      }),
    )
  })

  test('uses 74 bits of the random part', () => {
    const now = new Date('2026-11-21T12:00:00Z')
    const ids = new Set<string>()
    for (let bit = 0; bit < 80; bit++) {
      const random = new Uint8Array(10)
      random[bit >> 3] = 1 << (bit & 7)
      ids.add(uuidV7(now, random))
    }
    // One id for each used bit, and the all-zero id that every unused bit gives.
    expect(ids.size).toBe(75)
  })
})
