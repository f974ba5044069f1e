import { beganAfter } from '@curfew/domain'
import { beganBy, type Database } from '@curfew/ledger'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

// Goal: PostgreSQL and the domain agree on which sessions began before a logout. Method: both decide the same random pairs.

let database: TestDatabase
let db: Database
beforeAll(async () => {
  database = await createTestDatabase()
  db = database.db
})
afterAll(() => database.drop())

const ASK = `
  select ${beganBy()} as before
    from unnest($1::timestamptz[], $2::boolean[], $3::timestamptz[], $4::timestamptz[], $5::boolean[], $6::timestamptz[])
      with ordinality as g(started_at, started_stated, accepted_at, occurred_at, occurred_stated, requested_at, place)
   cross join lateral (select g.started_at, g.started_stated, g.accepted_at) s
   cross join lateral (select g.occurred_at, g.occurred_stated, g.requested_at) e
   order by g.place`

/** Instants close to one another, and close to the five minutes that clocks may differ. */
const instant = fc
  .tuple(fc.constantFrom(-600, -300, 0, 300, 600), fc.constantFrom(-0.001, 0, 0.001, 20))
  .map(([minute, more]) => new Date(Date.UTC(2026, 10, 21, 12) + (minute + more) * 1_000))
const pair = fc.record({
  startedAt: fc.option(instant),
  sessionAcceptedAt: instant,
  occurredAt: fc.option(instant),
  acceptedAt: instant,
  parentAcceptedAt: fc.option(instant),
})

describe('the order of sessions and a logout', () => {
  test('is the same in SQL as in the domain', async () => {
    const pairs = fc.sample(pair, 5_000).map((given) => {
      const { startedAt, sessionAcceptedAt, parentAcceptedAt, ...event } = given
      return {
        session: {
          startedAt: startedAt ?? sessionAcceptedAt,
          startedStated: startedAt !== null,
          acceptedAt: sessionAcceptedAt,
        },
        event: { ...event, ...(parentAcceptedAt !== null && { parentAcceptedAt }) },
      }
    })
    const requestedAt = pairs.map(({ event }) => event.parentAcceptedAt ?? event.acceptedAt)
    const { rows } = await db.query<{ before: boolean }>({
      text: ASK,
      values: [
        pairs.map(({ session }) => session.startedAt),
        pairs.map(({ session }) => session.startedStated),
        pairs.map(({ session }) => session.acceptedAt),
        pairs.map(({ event }, place) => event.occurredAt ?? requestedAt[place]),
        pairs.map(({ event }) => event.occurredAt !== null),
        requestedAt,
      ],
    })
    const differing = pairs.filter(
      ({ session, event }, place) => rows[place]?.before === beganAfter(session, event),
    )
    expect(differing).toEqual([])
    const before = rows.filter((row) => row.before).length
    expect(before).toBeGreaterThan(500)
    expect(before).toBeLessThan(4_500)
  })
})
