import type { Database } from '@curfew/ledger'
import { expect } from 'vitest'

/** Wraps a database to run `meanwhile` right after the statement `name`. */
export function pausedAfter(db: Database, name: string, meanwhile: () => Promise<void>): Database {
  const withConnection: Database['withConnection'] = (work) =>
    db.withConnection((connection) => {
      const query = async (...given: Parameters<typeof connection.query>) => {
        const answer = await connection.query(...given)
        const [statement] = given as readonly unknown[]
        if ((statement as { name?: string }).name === name) await meanwhile()
        return answer
      }
      return work(Object.assign(Object.create(connection), { query }))
    })
  return Object.assign(Object.create(db), { withConnection })
}

/** Resolves when a connection waits for a row lock. */
export const blocked = (db: Database) =>
  expect
    .poll(() =>
      db.query(
        "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
      ),
    )
    .toMatchObject({ rowCount: 1 })
