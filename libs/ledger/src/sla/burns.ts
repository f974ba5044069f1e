import type { BurnSeverity } from '@curfew/domain'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'

/** Runs `work` on the burns of all issuers, unless another bookkeeper does. @returns whether `work` ran. */
export function watchBurns(db: Database, work: (transaction: Queryable) => Promise<void>): Promise<boolean> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'burns'))) return false
    await work(transaction)
    return true
  })
}

// A burn that was last seen within the quiet time still goes on, and operators were notified of it.
const NOTE_BURN = `
  with before as (select burning_at from sla_burns where issuer = $1 and severity = $2),
  noted as (
    insert into sla_burns (issuer, severity, burning_at) values ($1, $2, $3)
    on conflict (issuer, severity) do update set burning_at = excluded.burning_at
  )
  insert into notifications (type, issuer, data)
  select 'sla.budget_burning', $1, $5::jsonb
   where not exists (select from before where burning_at > $3::timestamptz - make_interval(secs => $4::float8 / 1000))`

/**
 * Records that an issuer's error budget burns, and writes a notification if the burn is new.
 *
 * @param quietMs how long the budget must not have burnt before a burn is new, in milliseconds.
 * @returns whether the burn is new.
 */
export async function noteBurn(
  transaction: Queryable,
  {
    issuer,
    severity,
    now,
    quietMs,
    data,
  }: {
    issuer: string
    severity: BurnSeverity
    now: Date
    quietMs: number
    data: Readonly<Record<string, unknown>>
  },
): Promise<boolean> {
  const { rowCount } = await transaction.query({
    name: 'note_burn',
    text: NOTE_BURN,
    values: [issuer, severity, now, quietMs, JSON.stringify(data)],
  })
  return rowCount === 1
}
