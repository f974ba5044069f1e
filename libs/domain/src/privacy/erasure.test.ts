import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Issuer, Subject } from '../ids.ts'
import { type Erased, keysOf, nextErasureLook, recordConcerns } from './erasure.ts'

// Goal: of records that nobody understood, those about a subject are found however they are written, and another's never
// where it says whose it is. What waits is looked for soon, and never given up.

const ISS = 'https://idp.example' as Issuer
const WHO: Erased = {
  ...{ iss: ISS, sub: 'ålice "a"' as Subject },
  ...{ sids: new Set(['sid-1', 'sid-2']), emails: new Set(['alice@mail.example']) },
}
const inAscii = (text: string) =>
  text.replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)

describe('a record that was not understood', () => {
  const json = (value: unknown) => ({ key: 'foreign', text: JSON.stringify(value) })

  test.each([
    ['by its subject', json({ iss: ISS, sub: WHO.sub, more: 1 })],
    ['by its session', json({ iss: ISS, sid: 'sid-2' })],
    ['by its email address', json({ iss: ISS, sid: 'sid-3', email: 'alice@mail.example' })],
    ['deep within another shape', json({ event: { issuer: ISS, subject: [WHO.sub] } })],
    [
      'escaped, as PHP writes it',
      { key: '', text: inAscii(JSON.stringify({ iss: ISS, sub: WHO.sub })).replaceAll('/', '\\/') },
    ],
    ['by its key, where its value is nothing', { key: JSON.stringify([ISS, WHO.sub]), text: '' }],
    ['by its key of a session', { key: JSON.stringify([ISS, null, 'sid-1']), text: '' }],
    ['cut off in its middle', { key: '', text: `{"iss":"${ISS}","sub":${JSON.stringify(WHO.sub)},"oc` }],
  ])('is about the subject: %s', (_how, record) => {
    expect(recordConcerns(record, WHO)).toBe(true)
  })

  test.each([
    ['another subject, with the same session', json({ iss: ISS, sub: 'bob', sid: 'sid-1' })],
    [
      'another subject, with the same email address',
      json({ iss: ISS, sub: 'bob', email: 'alice@mail.example' }),
    ],
    ['another subject, whose client is called so', json({ iss: ISS, sub: 'bob', initiator: WHO.sub })],
    ['the same name at another issuer', json({ iss: 'https://other.example', sub: WHO.sub })],
    ['one whose name begins so', json({ iss: ISS, sub: `${WHO.sub} junior` })],
    ['nobody', json({ iss: ISS })],
    ['nothing at all', json(null)],
    ['one whose name begins so, cut off', { key: '', text: `{"iss":"${ISS}","sub":"ålice","oc` }],
  ])('is not: %s', (_how, record) => {
    expect(recordConcerns(record, WHO)).toBe(false)
  })

  test('is looked for by the keys that ingest gives', () => {
    expect(keysOf(WHO)).toEqual([
      JSON.stringify([ISS, WHO.sub]),
      JSON.stringify([ISS, null, 'sid-1']),
      JSON.stringify([ISS, null, 'sid-2']),
    ])
  })
})

test('what waits is looked for within seconds at first, and always within an hour', () => {
  const requestedAt = new Date('2026-11-21T00:00:00Z')
  const pause = (ageMs: number, waits: boolean) => {
    const now = new Date(requestedAt.getTime() + ageMs)
    return nextErasureLook({ requestedAt, now, waits }).getTime() - now.getTime()
  }
  expect([pause(0, true), pause(60_000, true), pause(86_400_000, true)]).toEqual([2_000, 6_000, 600_000])
  expect([pause(0, false), pause(86_400_000, false)]).toEqual([60_000, 3_600_000])
  fc.assert(
    fc.property(fc.integer({ min: -1e9, max: 1e12 }), fc.boolean(), (age, waits) => {
      expect(pause(age, waits)).toBeGreaterThan(0)
      expect(pause(age, waits)).toBeLessThanOrEqual(3_600_000)
    }),
  )
})
