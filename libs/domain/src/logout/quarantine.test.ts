import { describe, expect, test } from 'vitest'
import { originOf, quarantineFix, type RawRecord } from './quarantine.ts'

// Goal: a quarantined record belongs to the issuer that all of its parts name, and to no other issuer.

const ISS = 'https://idp.example'
const ID = '01938c2e-0000-7000-8000-000000000001'

const record = (change: Partial<RawRecord> = {}): RawRecord => ({
  lane: 'interactive',
  key: JSON.stringify([ISS, 'alice']),
  text: JSON.stringify({ id: ID, iss: ISS, sub: 'alice' }),
  headers: { ce_id: ID, ce_source: ISS },
  ...change,
})

describe('the origin of a record', () => {
  test('is its issuer and event', () => {
    expect(originOf(record())).toEqual({ iss: ISS, eventId: ID })
  })

  test.each([
    ['headers alone', { text: 'no JSON', key: 'none of ours' }],
    ['the value alone', { headers: {}, key: '' }],
  ])('is read from %s', (_, change) => {
    expect(originOf(record(change))).toEqual({ iss: ISS, eventId: ID })
  })

  test('is read from the key alone, without an event', () => {
    expect(originOf(record({ headers: {}, text: '\0' }))).toEqual({ iss: ISS, eventId: null })
  })

  test.each([
    ['the value', { text: JSON.stringify({ iss: 'https://other.example' }) }],
    ['a header', { headers: { ce_source: 'https://other.example' } }],
    ['the key', { key: JSON.stringify(['https://other.example', 'alice']) }],
  ])('has no issuer if %s names another issuer', (_, change) => {
    expect(originOf(record(change)).iss).toBeNull()
  })

  test('has no event if header and value name different events', () => {
    const headers = { ce_id: '01938c2e-0000-7000-8000-000000000002', ce_source: ISS }
    expect(originOf(record({ headers }))).toEqual({ iss: ISS, eventId: null })
  })

  test('has no event in the sessions lane, where an id names no logout', () => {
    expect(originOf(record({ lane: 'sessions' }))).toEqual({ iss: ISS, eventId: null })
  })

  test('has no issuer if the database cannot store its name', () => {
    for (const iss of ['a\0b', '\ud800', 'x'.repeat(513), '', 7, null])
      expect(originOf(record({ headers: {}, key: '', text: JSON.stringify({ iss }) })).iss).toBeNull()
  })
})

test('the advice covers every kind, and says that an incomplete record cannot be requeued', () => {
  for (const kind of ['unreadable', 'conflict', 'refused'] as const) {
    expect(quarantineFix({ kind, lane: 'bulk', cutShort: false })).toMatch(/dismiss/)
    expect(quarantineFix({ kind, lane: 'sessions', cutShort: true })).toMatch(/cannot be requeued/)
  }
  expect(quarantineFix({ kind: 'conflict', lane: 'bulk', cutShort: false })).toMatch(/comes back/)
})
