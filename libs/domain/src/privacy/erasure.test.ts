import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Issuer, Subject } from '../ids.ts'
import { type ErasedSubject, keysOf, nextErasureLook, recordConcerns } from './erasure.ts'

// Goal: an erasure finds every invalid record about its subject, and none that names another subject. It looks for remaining data
// soon and does not give up.
// Method: records in many forms, and properties of the pauses.

const ISS = 'https://idp.example' as Issuer
const SUBJECT: ErasedSubject = {
  ...{ iss: ISS, sub: 'ålice "a"' as Subject },
  ...{ sids: new Set(['sid-1', 'sid-2']), emails: new Set(['alice@mail.example']) },
}
const inAscii = (text: string) =>
  text.replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)

describe('an invalid record', () => {
  const json = (value: unknown) => ({ key: 'foreign', text: JSON.stringify(value) })

  test.each([
    ['its subject', json({ iss: ISS, sub: SUBJECT.sub, more: 1 })],
    ['its session', json({ iss: ISS, sid: 'sid-2' })],
    ['its email address', json({ iss: ISS, sid: 'sid-3', email: 'alice@mail.example' })],
    ['its email address in another case', json({ iss: ISS, sid: 'sid-3', email: 'Alice@Mail.example' })],
    [
      'its email address in another case before a cut',
      { key: '', text: `{"iss":"${ISS}","email":"ALICE@mail.example","oc` },
    ],
    ['a nested member of another shape', json({ event: { issuer: ISS, subject: [SUBJECT.sub] } })],
    [
      'its subject with escapes, as PHP writes them',
      { key: '', text: inAscii(JSON.stringify({ iss: ISS, sub: SUBJECT.sub })).replaceAll('/', '\\/') },
    ],
    ['its key alone', { key: JSON.stringify([ISS, SUBJECT.sub]), text: '' }],
    ["its session's key alone", { key: JSON.stringify([ISS, null, 'sid-1']), text: '' }],
    [
      'its subject before a cut',
      { key: '', text: `{"iss":"${ISS}","sub":${JSON.stringify(SUBJECT.sub)},"oc` },
    ],
  ])('is about the subject by %s', (_how, record) => {
    expect(recordConcerns(record, SUBJECT)).toBe(true)
  })

  test.each([
    ['another subject with the same session', json({ iss: ISS, sub: 'bob', sid: 'sid-1' })],
    [
      'another subject with the same email address',
      json({ iss: ISS, sub: 'bob', email: 'alice@mail.example' }),
    ],
    [
      'another subject with a client of the same name',
      json({ iss: ISS, sub: 'bob', initiator: SUBJECT.sub }),
    ],
    ['a subject with the name in another case', json({ iss: ISS, name: SUBJECT.sub.toUpperCase() })],
    ['a session with the sid in another case', json({ iss: ISS, sid: 'SID-1' })],
    ['the same name at another issuer', json({ iss: 'https://other.example', sub: SUBJECT.sub })],
    ['a subject with a longer name', json({ iss: ISS, sub: `${SUBJECT.sub} junior` })],
    ['no subject', json({ iss: ISS })],
    ['no value', json(null)],
    ['a subject with a similar name before a cut', { key: '', text: `{"iss":"${ISS}","sub":"ålice","oc` }],
  ])('is not about the subject with %s', (_how, record) => {
    expect(recordConcerns(record, SUBJECT)).toBe(false)
  })

  test('is found by the keys that ingest gives', () => {
    expect(keysOf(SUBJECT)).toEqual([
      JSON.stringify([ISS, SUBJECT.sub]),
      JSON.stringify([ISS, null, 'sid-1']),
      JSON.stringify([ISS, null, 'sid-2']),
    ])
  })
})

test('an erasure looks for remaining data within seconds at first, and always within an hour', () => {
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
