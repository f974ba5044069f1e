import { createDeliveryLedger } from '@curfew/ledger'
import { expect, test } from 'vitest'
import { createTestDatabase } from '../support/database.ts'

// Goal: operators get one notification for every partition and minute, whose number is right even if a fault is reported twice.

test('faults of a partition share one notification until it is sent, and a fault reported twice counts once', async () => {
  await using database = await createTestDatabase()
  const { db } = database
  const notice = (from: number | null, to: number, partition = 'logout.events/0') =>
    createDeliveryLedger(db).noticeRemoved({ lane: 'interactive', partition, from, to })
  const notifications = async () => {
    const { rows } = await db.query<{ data: unknown }>(
      "select data from notifications where type = 'record.removed' order by occurred_at",
    )
    return rows.map(({ data }) => data)
  }
  await notice(10, 30)
  await notice(10, 30)
  await notice(10, 35)
  await notice(50, 60)
  const first = { lane: 'interactive', partition: 'logout.events/0', records: 35, first: 10, next: 60 }
  expect(await notifications()).toEqual([first])
  await notice(null, 7, 'logout.events/1')
  const unknown = { lane: 'interactive', partition: 'logout.events/1', records: null, first: null, next: 7 }
  expect(await notifications()).toEqual([first, unknown])
  await db.query('update notifications set fanned_out_at = now()')
  await notice(70, 71)
  expect(await notifications()).toHaveLength(3)
})
