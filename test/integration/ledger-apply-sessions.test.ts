import {
  type ClientId,
  type Issuer,
  netOf,
  type Session,
  type SessionEnd,
  type Sid,
  type Subject,
} from '@curfew/domain'
import { applySessions, listSessionsOfSid, listSessionsOfSubject, readRegistryRevision } from '@curfew/ledger'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

// Goal: the index has the sessions as the IdP posted them last, however often it repeats a post and whatever runs concurrently.
// Method: the real statements on a real database, with some batches at the same time.

const ISS = 'https://idp.example' as Issuer
const HOUR_MS = 3_600_000
const NOW = Date.now()
const at = (hours: number) => new Date(NOW + hours * HOUR_MS)

let database: TestDatabase
beforeEach(async () => {
  // Sixty concurrent batches wait for ten connections, on a busy machine for longer than the pool's five seconds.
  database = await createTestDatabase({ poolMax: 10, connectTimeoutMs: 60_000 })
})
afterEach(() => database.drop())

const session = (change: Partial<Record<keyof Session, unknown>> = {}): Session => ({
  iss: ISS,
  sub: 'alice' as Subject,
  sid: 's1' as Sid,
  clientId: 'mail' as ClientId,
  device: null,
  startedAt: at(-1),
  startedStated: true,
  acceptedAt: at(-1),
  expiresAt: at(8),
  ...(change as Partial<Session>),
})
const end = (sid: string, clientId: string | null = null): SessionEnd => ({
  iss: ISS,
  sid: sid as Sid,
  clientId: clientId as ClientId | null,
})
const apply = (starts: readonly Session[], ends: readonly SessionEnd[] = []) =>
  applySessions(database.db, { starts, ends })
const ALL = { iss: ISS, clientIds: null, after: null, limit: 100 }
const ofSubject = (sub: string) => listSessionsOfSubject(database.db, { ...ALL, sub })
const ofSid = (sid: string) => listSessionsOfSid(database.db, { ...ALL, sid })
const named = (records: readonly { sid: string; clientId: string }[]) =>
  records.map(({ sid, clientId }) => `${sid} ${clientId}`)

/** Counts the rows of either table that have no equal row in the other. */
async function disagreements(): Promise<number> {
  const { rows } = await database.db.query<{ count: number }>(
    `select count(*) from (select issuer, sub, sid, client_id, started_at, expires_at from sessions) s
       full join (select issuer, sub, sid, client_id, started_at, expires_at from session_ids) i
      using (issuer, sub, sid, client_id, started_at, expires_at)
      where s is null or i is null`,
  )
  return rows[0]?.count ?? -1
}

describe('the session index', () => {
  test('finds a started session by subject and by sid', async () => {
    await apply([
      session({ device: 'phone' }),
      session({ clientId: 'wiki' }),
      session({ sid: 's2' }),
      session({ sub: 'bob' }),
    ])
    expect(named(await ofSubject('alice'))).toEqual(['s1 mail', 's1 wiki', 's2 mail'])
    expect((await ofSid('s1')).map(({ clientId, sub }) => `${clientId} ${sub}`)).toEqual([
      'mail alice',
      'mail bob',
      'wiki alice',
    ])
    const expected = { iss: ISS, sub: 'alice', sid: 's1', clientId: 'mail', device: 'phone', email: null }
    const times = { startedAt: at(-1), expiresAt: at(8), orphanedAt: null, overlongAfterMs: null }
    const unnamed = { issuer: null, logoutEventId: null, givenEventId: null }
    expect((await ofSubject('alice'))[0]).toEqual({ ...expected, ...times, ...unnamed })
    expect((await ofSid('s1'))[0]).toEqual({ ...expected, ...times, ...unnamed })
    expect(await disagreements()).toBe(0)
  })

  test('keeps the earliest start and the latest end of a session that is posted again', async () => {
    await apply([session({ device: 'phone' })])
    await apply([session({ startedAt: at(-0.5), expiresAt: at(9) })])
    await apply([session({ startedAt: at(-2), expiresAt: at(7) })])
    expect(await ofSubject('alice')).toMatchObject([{ device: 'phone', startedAt: at(-2), expiresAt: at(9) }])
    expect(await disagreements()).toBe(0)
  })

  test('keeps a session without an end, and a later post gives it one or takes it away', async () => {
    const ends = async () => (await ofSubject('alice')).map(({ expiresAt }) => expiresAt)
    const post = (...all: readonly (Date | null)[]) =>
      applySessions(
        database.db,
        netOf(all.map((expiresAt) => ({ kind: 'started', session: session({ expiresAt }) }))),
      )
    await post(null)
    expect([await ends(), (await ofSid('s1'))[0]?.expiresAt]).toEqual([[null], null])
    await post(null)
    expect(await ends()).toEqual([null])
    await post(at(8))
    expect(await ends()).toEqual([at(8)])
    await post(at(7))
    expect(await ends()).toEqual([at(8)])
    await post(null, at(7))
    expect(await ends()).toEqual([at(7)])
    await post(at(9), null)
    expect(await ends()).toEqual([null])
    // An end that has passed cannot come from a session that lasts: the post was delayed.
    await post(at(-0.5))
    expect(await ends()).toEqual([null])
    expect(await disagreements()).toBe(0)
    await apply([], [end('s1')])
    expect(await ends()).toEqual([])
  })

  test.each([1, 2])(
    'keeps a session whose older post arrives after its end, in %i batches',
    async (batches) => {
      const posts = [session({ expiresAt: null }), session({ acceptedAt: at(0), expiresAt: at(-0.5) })]
      const changes = posts.map((each) => ({ kind: 'started' as const, session: each }))
      const parts = batches === 1 ? [changes] : changes.map((change) => [change])
      for (const part of parts) await applySessions(database.db, netOf(part))
      expect(await ofSubject('alice')).toMatchObject([{ sid: 's1', expiresAt: null }])
    },
  )

  test('writes nothing for a repeated post, but stores a new device or a later start', async () => {
    const places = async () =>
      (
        await database.db.query(
          'select tableoid, ctid, xmin from sessions union all select tableoid, ctid, xmin from session_ids order by 1, 2',
        )
      ).rows
    const both = [session({ device: 'phone' }), session({ clientId: 'wiki' })]
    const endless = session({ clientId: 'chat', sub: 'bob', expiresAt: null })
    await apply([...both, endless])
    const before = await places()
    await apply([endless])
    await apply([session({ device: 'phone' }), session({ clientId: 'wiki', expiresAt: at(7) })])
    await apply([session()])
    expect(await places()).toEqual(before)
    // A later start is a re-login. It is stored once.
    const back = [session({ startedAt: at(-0.5) })]
    await apply(back)
    const after = await places()
    expect(after).not.toEqual(before)
    await apply(back)
    expect(await places()).toEqual(after)
    await apply([session({ device: 'laptop' }), session({ clientId: 'wiki', device: 'laptop' })])
    expect(await ofSubject('alice')).toMatchObject([{ device: 'laptop' }, { device: 'laptop' }])
    expect(await disagreements()).toBe(0)
  })

  test('keeps the logout of a session that is posted again', async () => {
    await apply([session()])
    const event = '01938c2e-0000-7000-8000-000000000001'
    await database.db.query('update sessions set logout_event_id = $1, orphaned_at = now()', [event])
    await apply([session({ expiresAt: at(9) })])
    expect(await ofSubject('alice')).toMatchObject([
      { logoutEventId: event, orphanedAt: expect.any(Date), expiresAt: at(9) },
    ])
  })

  test('removes a session that ended, for one client or for all', async () => {
    const both = [session(), session({ clientId: 'wiki' })]
    await apply([...both, session({ sid: 's2' })])
    await apply([], [end('s1', 'mail')])
    expect(named(await ofSubject('alice'))).toEqual(['s1 wiki', 's2 mail'])
    await apply(both)
    await apply([], [end('s1'), end('s1', 'mail'), end('unknown')])
    expect(named(await ofSubject('alice'))).toEqual(['s2 mail'])
    expect(await ofSid('s1')).toEqual([])
    expect(await disagreements()).toBe(0)
  })

  test('applies an end before the starts of its batch', async () => {
    await apply([session({ device: 'phone' })])
    await apply([session()], [end('s1')])
    expect(await ofSubject('alice')).toMatchObject([{ device: null }])
  })

  test('stores unusual texts unchanged', async () => {
    const sub = '{"a",NULL}\\ é👩🏽‍🚀'
    await apply([session({ sub, sid: 'NULL', clientId: '{}', device: '"' })])
    expect(await ofSubject(sub)).toMatchObject([{ sub, sid: 'NULL', clientId: '{}', device: '"' }])
  })

  test('finds and ends nothing for an unknown issuer', async () => {
    await apply([], [end('s1')])
    expect(await ofSubject('alice')).toEqual([])
    expect(await ofSid('s1')).toEqual([])
  })

  test('changes the registry only with the first session of an issuer, and otherwise does not wait for its lock', async () => {
    const before = await readRegistryRevision(database.db)
    await Promise.all([apply([session()]), apply([session({ sid: 's2' })])])
    expect(await readRegistryRevision(database.db)).toBe(before + 1)
    await database.db.withConnection(async (other) => {
      await other.query('begin')
      await other.query('select from registry_revision for update')
      await apply([session({ sid: 's3' })], [end('s1')])
      await other.query('rollback')
    })
    expect(await readRegistryRevision(database.db)).toBe(before + 1)
  })

  test('applies concurrent batches of the same sessions in any order', async () => {
    const names = Array.from({ length: 40 }, (_, n) => n)
    const sessions = names.map((n) => session({ sub: `user-${n % 7}`, sid: `s${n}`, clientId: `c${n % 3}` }))
    await apply(sessions)
    const shuffled = <Item>(items: readonly Item[], seed: number) =>
      items.toSorted((a, b) => hash(JSON.stringify(a), seed) - hash(JSON.stringify(b), seed))
    await Promise.all(
      Array.from({ length: 60 }, (_, n) =>
        apply(
          shuffled(sessions, n).slice(0, 30),
          shuffled(names, n)
            .slice(0, 10)
            .map((each) => end(`s${each}`)),
        ),
      ),
    )
    expect(await disagreements()).toBe(0)
  })
})

function hash(text: string, seed: number): number {
  let sum = seed
  for (const char of text) sum = Math.imul(sum ^ (char.codePointAt(0) ?? 0), 0x01000193)
  return sum
}
