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

// Goal: over Kafka an issuer logout notifies each relying party exactly once about each subject, even if the bookkeeper dies
// between the hand-over of subjects and the record of it.
// Method: the services as separate processes over a real broker, and one row of the ledger locked until the bookkeeper is
// killed.

const processes = useProcesses()
const SUBJECTS = 900
const name = (number: number) => `user-${String(number).padStart(3, '0')}`
const ALL_SUBJECTS = Array.from({ length: SUBJECTS }, (_, number) => name(number))
/** Each subject has a session at mail, every second one at wiki too: more rows of the index than one page of the bookkeeper. */
const SESSIONS = ALL_SUBJECTS.flatMap((sub, number) =>
  ['mail', 'wiki']
    .filter((_, place) => number % (place + 1) === 0)
    .map((clientId) => ({ sub, sid: `${clientId}-${number}`, clientId })),
)
/** The connections that have handed subjects over, and wait for the locked row to record it. */
const HELD = `
  select from pg_stat_activity
   where datname = current_database() and wait_event_type = 'Lock' and query like '%set taken = taken + $2%'`
const patiently = { timeout: 60_000, interval: 50 }

await describeWithKafka('an issuer logout over Kafka', (brokers) => {
  test('logs out each subject once, even if the bookkeeper is killed during the hand-over', {
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

    // The subjects are counted already. The locked row keeps the bookkeeper from recording the hand-over.
    await database.db.query('update issuer_logouts set total = $1', [SUBJECTS])
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
      ...{ state: 'done', plan_basis: 'sessions', total: SUBJECTS, done: SUBJECTS, waiting: 0 },
      ...{ acknowledged: SESSIONS.length, superseded: 0, lapsed: 0, dead: 0 },
    })
    const { rows: parts } = await database.db.query<{ id: string; sub: string }>(
      'select given_id as id, sub from events where parent_id = $1 order by sub',
      [storedId(id, ISS)],
    )
    expect(parts.map(({ sub }) => sub)).toEqual(ALL_SUBJECTS)
    const owed = (every: number) =>
      new Map(parts.filter((_, n) => n % every === 0).map((part) => [part.id, 1]))
    expect([mail.times, wiki.times]).toEqual([owed(1), owed(2)])
    // No record used the Postgres event log.
    expect((await database.db.query('select from log_records')).rows).toEqual([])
    expect(await ingest.getLogoutEvent(id)).toMatchObject({
      status: 'settled',
      issuer_logout: { state: 'done' },
    })
  })
})
