import type { BurnSeverity } from '@curfew/domain'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'

/** Works on the burns of all issuers, unless another bookkeeper is at it. @returns whether this one was. */
export function watchBurns(db: Database, work: (transaction: Queryable) => Promise<void>): Promise<boolean> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'burns'))) return false
    await work(transaction)
    return true
  })
}

// One that was seen to burn a moment ago burns on, and is told already.
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
 * Notes that an issuer's error budget burns, and writes a notification where it is news.
 *
 * @param quietMs it is news once it was well for so long, in milliseconds.
 * @returns whether it was.
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
