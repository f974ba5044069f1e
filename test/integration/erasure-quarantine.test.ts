import { randomUUID } from 'node:crypto'
import { quarantine } from '@curfew/ledger'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: erasing a subject deletes the quarantined records that name the subject by an email address, and no other record.
// Method: real services with a bookkeeper, quarantined records in many spellings, and SQL to see which of them remain.

const HOUR_MS = 3_600_000
const ALICE = 'alice@mail.example'
let curfew: Curfew

beforeEach(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
})
afterEach(() => curfew.stop())

/** Puts a text in quarantine as the value of a record. */
async function quarantined(value: string): Promise<void> {
  const record = {
    lane: 'interactive',
    position: randomUUID(),
    key: 'a key of another producer',
    value: Buffer.from(value),
    headers: {},
  } as const
  await quarantine(curfew.db, [{ record, kind: 'unreadable', reason: 'a test' }])
}
async function remaining(): Promise<readonly string[]> {
  const { rows } = await curfew.db.query<{ value: Buffer }>(
    'select value from quarantined_records order by id',
  )
  return rows.map(({ value }) => value.toString())
}
/** Erases `alice`, who has the address `email`. @returns the number of deleted records. */
async function erase(email = ALICE): Promise<number> {
  const { status, erased } = await curfew.client.eraseSubject(ISSUER, 'alice', { abandon: true, email })
  expect(status).toBe('completed')
  return erased.quarantined
}

test.each([
  ['a record', ALICE, JSON.stringify({ iss: ISS, sid: 'x', email: 'Alice@Mail.EXAMPLE' })],
  ['a request', 'ALICE@mail.example', JSON.stringify({ iss: ISS, sid: 'x', email: ALICE })],
  ['a record that is cut', ALICE, `{"iss":"${ISS}","email":"ALICE@mail.example","sid":"x`],
  [
    'a record with escapes',
    'åse+a@mail.example',
    `{"iss":"${ISS}","sid":"x","email":"\\u00C5SE\\u002BA@Mail.example"}`,
  ],
])(
  'an erasure finds the email address of a quarantined record, whatever its case in %s',
  async (_in, email, value) => {
    await quarantined(value)
    expect(await erase(email)).toBe(1)
    expect(await remaining()).toEqual([])
  },
)

test('an erasure compares the subject and the sid of a quarantined record with their case', async () => {
  const records = [
    JSON.stringify({ iss: ISS, sub: 'Alice', email: ALICE }),
    JSON.stringify({ iss: ISS, subject: 'ALICE' }),
    JSON.stringify({ iss: ISS, sid: 'x', email: `m${ALICE}` }),
  ]
  for (const record of records) await quarantined(record)
  expect(await erase()).toBe(0)
  expect(await remaining()).toEqual(records)
})

describe('a quarantined record with an address that two subjects share', () => {
  beforeEach(async () => {
    await curfew.client.postSession({
      ...{ iss: ISS, sub: 'bob', sid: 'of-bob', client_id: 'mail', email: ALICE },
      started_at: new Date().toISOString(),
      expires_at: new Date(Date.now() + HOUR_MS).toISOString(),
    })
    await eventually(async () =>
      expect((await curfew.db.query('select from session_ids')).rows).toHaveLength(1),
    )
  })

  test.each([
    ['the record', JSON.stringify({ iss: ISS, sid: 'of-bob', email: ALICE, more: 'a\0b' })],
    ['a member of the record', JSON.stringify({ event: { iss: ISS, sid: 'of-bob', email: ALICE } })],
    ['a record that is cut', `{"iss":"${ISS}","sid":"of-bob","email":"${ALICE}","oc`],
  ])('stays if %s names a session that the index knows to be of the other', async (_where, value) => {
    await quarantined(value)
    expect(await erase()).toBe(0)
    expect(await remaining()).toEqual([value])
  })

  test.each([
    ['an unknown session', { iss: ISS, sid: 'of-yesterday', email: ALICE }],
    ['no session', { iss: ISS, email: ALICE }],
    ['the subject as well', { iss: ISS, sid: 'of-bob', name: 'alice', email: ALICE }],
  ])('is erased with the first of them if it names %s', async (_what, value) => {
    await quarantined(JSON.stringify(value))
    expect(await erase()).toBe(1)
    expect(await remaining()).toEqual([])
  })
})
