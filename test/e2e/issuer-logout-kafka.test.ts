import { createClient } from '@curfew/client'
import { withTransaction } from '@curfew/ledger'
import { expect, test } from 'vitest'
import { type Member, openCluster } from '../chaos/cluster.ts'
import { ISS, ISSUER } from '../chaos/load.ts'
import { storedId } from '../support/curfew.ts'
import { createTestDatabase } from '../support/database.ts'
import { describeWithKafka } from '../support/kafka.ts'
import { useProcesses } from '../support/processes.ts'
import { insertSessions } from '../support/session-rows.ts'

// Goal: a logout of everyone comes by Kafka to all whom it is about, each told once at each relying party, though the bookkeeper
// dies between handing people over and writing down that it did.
// Method: the services as processes of their own over a real broker, and one row of the ledger held until the bookkeeper is killed.

const processes = useProcesses()
const PEOPLE = 900
const name = (number: number) => `user-${String(number).padStart(3, '0')}`
const EVERYBODY = Array.from({ length: PEOPLE }, (_, number) => name(number))
/** Everybody has a session of mail, every second one of wiki: more rows of the index than the bookkeeper takes at once. */
const SESSIONS = EVERYBODY.flatMap((sub, number) =>
  ['mail', 'wiki']
    .filter((_, place) => number % (place + 1) === 0)
    .map((clientId) => ({ sub, sid: `${clientId}-${number}`, clientId })),
)
/** Whoever has handed people over, and waits for the row to write it down. */
const HELD = `
  select from pg_stat_activity
   where datname = current_database() and wait_event_type = 'Lock' and query like '%set taken = taken + $2%'`
const patiently = { timeout: 60_000, interval: 50 }

await describeWithKafka('a logout of everyone, over Kafka', (brokers) => {
  test('reaches each person once, though the bookkeeper is killed after it has handed some over', {
    timeout: 150_000,
  }, async () => {
    await using database = await createTestDatabase()
    const roles = ['bookkeeper', 'ingest', 'delivery', 'delivery', 'console'] as const
    await using cluster = await openCluster(processes, { brokers, database, roles })
    const [bookkeeper] = cluster.members as readonly [Member, ...Member[]]
    await bookkeeper.kill()
    await cluster.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
    await insertSessions(database.db, ISS, SESSIONS)
    const [mail, wiki] = cluster.tallies

    const ingest = createClient({ url: cluster.ingestUrls[0] ?? '', key: cluster.key })
    const { id } = await ingest.postLogoutEvent({ iss: ISS, scope: 'issuer', reason: 'compromise' })
    const job = () => cluster.client.getIssuerLogout(id).catch(() => null)
    await expect.poll(job, patiently).toMatchObject({ state: 'running', total: null, done: 0 })

    // Counted, and then kept from writing down whom it has handed over.
    await database.db.query('update issuer_logouts set total = $1', [PEOPLE])
    await withTransaction(database.db, async (transaction) => {
      await transaction.query('select from issuer_logouts for no key update')
      bookkeeper.start()
      const held = async () => (await database.db.query(HELD)).rows
      await expect.poll(held, patiently).toHaveLength(1)
      await expect.poll(() => mail.times.size, patiently).toBeGreaterThan(0)
      await bookkeeper.kill()
      expect((await transaction.query('select taken from issuer_logouts')).rows).toEqual([{ taken: 0 }])
    })
    bookkeeper.start()
    await bookkeeper.ready()

    await expect.poll(job, patiently).toMatchObject({
      ...{ state: 'done', plan_basis: 'sessions', total: PEOPLE, done: PEOPLE, waiting: 0 },
      ...{ acknowledged: SESSIONS.length, superseded: 0, lapsed: 0, dead: 0 },
    })
    const { rows: parts } = await database.db.query<{ id: string; sub: string }>(
      'select given_id as id, sub from events where parent_id = $1 order by sub',
      [storedId(id, ISS)],
    )
    expect(parts.map(({ sub }) => sub)).toEqual(EVERYBODY)
    const owed = (every: number) =>
      new Map(parts.filter((_, n) => n % every === 0).map((part) => [part.id, 1]))
    expect([mail.times, wiki.times]).toEqual([owed(1), owed(2)])
    // None of it came by the log of the ledger.
    expect((await database.db.query('select from log_records')).rows).toEqual([])
    expect(await ingest.getLogoutEvent(id)).toMatchObject({
      status: 'settled',
      issuer_logout: { state: 'done' },
    })
  })
})
