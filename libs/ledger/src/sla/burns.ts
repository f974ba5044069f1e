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

// A burn that was last seen within the quiet time still goes on, and operators were notified of it. One that was seen in the future
// says nothing: the clock of a bookkeeper was ahead then.
const SEE_BURN = `
  with before as (select burning_at from sla_burns where issuer = $1 and severity = $2),
  seen as (
    insert into sla_burns (issuer, severity, burning_at) values ($1, $2, $3)
    on conflict (issuer, severity) do update set burning_at = excluded.burning_at
  )
  select from (select) burn
   where not exists (select from before where abs(extract(epoch from burning_at - $3::timestamptz)) * 1000 < $4::float8)`

/**
 * Records that an issuer's error budget burns.
 *
 * @param quietMs how long the budget must not have burnt before a burn is new, in milliseconds.
 * @returns whether the burn is new. If so, notify of it in the same transaction.
 */
export async function seeBurn(
  transaction: Queryable,
  { issuer, severity, now, quietMs }: { issuer: string; severity: BurnSeverity; now: Date; quietMs: number },
): Promise<boolean> {
  const { rowCount } = await transaction.query({
    name: 'see_burn',
    text: SEE_BURN,
    values: [issuer, severity, now, quietMs],
  })
  return rowCount === 1
}

const NOTIFY_OF_BURN = `
  insert into notifications (type, issuer, data) values ('sla.budget_burning', $1, $2::jsonb)`

/** Writes the notification of a burning budget. */
export async function notifyOfBurn(
  transaction: Queryable,
  { issuer, data }: { issuer: string; data: Readonly<Record<string, unknown>> },
): Promise<void> {
  await transaction.query({
    name: 'notify_of_burn',
    text: NOTIFY_OF_BURN,
    values: [issuer, JSON.stringify(data)],
  })
}
