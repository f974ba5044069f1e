import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { eventually, ISS, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: an accepted logout is delivered, whichever process dies on the way.
// Method: workers with their own connections, which are cut as by a SIGKILL, and short leases.

const events = (count: number, clients: readonly string[]) =>
  Array.from({ length: count }, (_, index) => ({
    id: randomUUID(),
    iss: ISS,
    sub: `user-${index}`,
    clients: [...clients],
  }))

describe('a worker that was killed', () => {
  test('during attempts loses its deliveries to another worker when its lease runs out', async () => {
    await using curfew = await openCurfew({ workers: 0 })
    await using rp = await openRelyingParty(curfew, {
      clientId: 'rp',
      curfew: { timeout_ms: 30_000, concurrency: 4 },
    })
    rp.behave('hang')
    const first = await curfew.startWorker({ leaseMs: 1_000 })
    const posted = events(20, ['rp'])
    await curfew.client.postLogoutEvents(posted)
    await rp.told(4)
    await first.kill()
    const held = await curfew.db.query('select state, count(*) as count from deliveries group by 1')
    expect(held.rows).toEqual([{ state: 'in_flight', count: 20 }])

    rp.behave(null)
    await curfew.startWorker({ leaseMs: 1_000 })
    for (const { id } of posted) {
      expect(await curfew.client.getLogoutEvent(id, { wait: 20 })).toMatchObject({
        status: 'settled',
        acknowledged: 1,
      })
    }
    // The four attempts that the dead worker began are made again. Its own attempts were never recorded.
    const { rows } = await curfew.db.query('select attempts, count(*) as count from deliveries group by 1')
    expect(rows).toEqual([{ attempts: 1, count: 20 }])
    expect(rp.received.length).toBe(24)
    expect(curfew.lines.join('')).toContain('leases.reclaimed')
  })

  test('before it committed its records leaves them to another worker, and every plan is delivered once', async () => {
    await using curfew = await openCurfew({ workers: 0 })
    await using rp = await openRelyingParty(curfew, { clientId: 'rp' })
    const workers = [
      await curfew.startWorker({ leaseMs: 1_000 }),
      await curfew.startWorker({ leaseMs: 1_000 }),
    ]
    const posted = events(300, ['rp'])
    const accepted = curfew.client.postLogoutEvents(posted)
    await rp.told(1)
    await workers[0]?.kill()
    await accepted
    await eventually(async () => {
      const { rows } = await curfew.db.query('select state, count(*) as count from deliveries group by 1')
      expect(rows).toEqual([{ state: 'acknowledged', count: 300 }])
    })
    const delivered = new Set(rp.received.map(({ claims }) => claims.txn))
    expect(delivered).toEqual(new Set(posted.map(({ id }) => id)))
    const { rows } = await curfew.db.query(
      'select (select count(*) from log_records) as waiting, (select count(*) from attempts) as attempts',
    )
    expect(rows).toEqual([{ waiting: 0, attempts: 300 }])
  })
})

describe('a worker that is stopped', () => {
  test('finishes its attempts, and releases its other deliveries at once', async () => {
    await using curfew = await openCurfew({ workers: 0 })
    await using rp = await openRelyingParty(curfew, {
      clientId: 'rp',
      curfew: { timeout_ms: 1_000, concurrency: 2, retry_schedule_ms: [1_000] },
    })
    rp.behave('hang')
    // The lease is too long to run out during the test.
    const first = await curfew.startWorker({ leaseMs: 300_000 })
    await curfew.client.postLogoutEvents(events(30, ['rp']))
    await rp.told(2)
    rp.behave(null)
    await first.stop()
    const { rows } = await curfew.db.query<{ state: string }>(
      'select distinct state from deliveries order by 1',
    )
    expect(rows.map(({ state }) => state)).not.toContain('in_flight')
    await curfew.startWorker()
    await eventually(async () => {
      const { rows } = await curfew.db.query('select state, count(*) as count from deliveries group by 1')
      expect(rows).toEqual([{ state: 'acknowledged', count: 30 }])
    })
  })
})

test('a worker that must stop at once releases its deliveries, and an interrupted attempt is not counted', async () => {
  await using curfew = await openCurfew({ workers: 0 })
  await using rp = await openRelyingParty(curfew, { clientId: 'rp', curfew: { concurrency: 2 } })
  rp.behave('hang')
  // The lease is too long to run out during the test.
  const first = await curfew.startWorker({ leaseMs: 300_000 })
  await curfew.client.postLogoutEvents(events(10, ['rp']))
  await rp.told(2)
  await first.abandon()
  const { rows } = await curfew.db.query(
    'select state, attempts, retries, count(*) as count from deliveries group by 1, 2, 3',
  )
  expect(rows).toEqual([{ state: 'pending', attempts: 0, retries: 0, count: 10 }])
  rp.behave(null)
  await curfew.startWorker()
  await eventually(async () => {
    const { rows } = await curfew.db.query(
      'select state, attempts, count(*) as count from deliveries group by 1, 2',
    )
    expect(rows).toEqual([{ state: 'acknowledged', attempts: 1, count: 10 }])
  })
})

describe('when PostgreSQL fails and is available again', () => {
  test('deliveries in flight are settled, and no relying party is notified twice', async () => {
    await using curfew = await openCurfew({ workers: 0 })
    await using rp = await openRelyingParty(curfew, { clientId: 'rp' })
    await curfew.startWorker({ leaseMs: 60_000 })
    const posted = events(100, ['rp'])
    await curfew.client.postLogoutEvents(posted)
    await rp.told(1)
    // Ends every connection to the database, as a failover does.
    await curfew.db.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
    )
    await eventually(async () => {
      const { rows } = await curfew.db.query('select state, count(*) as count from deliveries group by 1')
      expect(rows).toEqual([{ state: 'acknowledged', count: 100 }])
    })
    expect(rp.received).toHaveLength(100)
  })
})
