import type { DeliveryId, WorkerId } from '@curfew/domain'
import { migrate, reclaimLeases, releaseUnheld } from '@curfew/ledger'
import { expect, test } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { migrateUpTo } from '../support/migrations.ts'
import { newWorker } from './ledger-support.ts'

// Goal: what an older release left in flight, whatever its age, is found by this one.
// Method: a schema of before leases were rows, with deliveries in flight, migrated.

test('deliveries that were in flight at the upgrade are given back', async () => {
  await using database = await createTestDatabase()
  const { db } = database
  await migrateUpTo(db, 'leases')
  const living = await newWorker(db)
  const gone = '00000000-0000-4000-8000-00000000dead' as WorkerId
  const insert = (id: string, worker: WorkerId, age: string) =>
    db.query(
      `insert into deliveries (id, event_id, binding_id, state, lane, planned_at, leased_by, leased_at)
       values ($1, $1, 1, 'in_flight', 'interactive', now() - $3::interval, $2, now() - $3::interval)`,
      [id, worker, age],
    )
  const ids = [1, 2, 3, 4].map((n) => `00000000-0000-8000-8000-00000000000${n}` as DeliveryId)
  const [held, unheld, orphaned, ancient] = ids as [DeliveryId, DeliveryId, DeliveryId, DeliveryId]
  await insert(held, living, '1 minute')
  await insert(unheld, living, '16 minutes')
  await insert(orphaned, gone, '1 minute')
  await insert(ancient, gone, '90 days')
  await migrate(db)

  expect(await releaseUnheld(db, { workerId: living, asking: [], held: [held], upTo: 0 })).toBe(1)
  expect(await reclaimLeases(db, { leaseMs: 10_000 })).toBe(2)
  const { rows } = await db.query('select id, state from deliveries order by id')
  expect(rows).toEqual(ids.map((id) => ({ id, state: id === held ? 'in_flight' : 'pending' })))
})
