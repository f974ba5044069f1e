import { randomUUID } from 'node:crypto'
import { quarantine } from '@curfew/ledger'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Curfew, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: erasing a subject deletes the quarantined records that name the subject by an email address, and no other record.
// Method: real services with a bookkeeper, quarantined records in many spellings, and SQL to see which of them remain.

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
