import type { Queryable } from './database.ts'

/** What one process at a time does, each under a number of its own that nothing else locks. */
const LOCKS = {
  partitions: 4_872_364_192,
  announcing: 4_872_364_193,
  publishing: 4_872_364_194,
  breakers: 4_872_364_195,
  outcomes: 4_872_364_196,
  keyExpiry: 4_872_364_197,
  journal: 4_872_364_198,
  burns: 4_872_364_199,
  orphans: 4_872_364_200,
  issuerLogouts: 4_872_364_201,
  quarantine: 4_872_364_222,
  sessionQuotas: 4_872_364_202,
} as const

const TRY_LOCK = 'select pg_try_advisory_xact_lock($1) as locked'

/** Takes a lock until the transaction ends. @returns false where somebody else has it: then there is nothing to do here. */
export async function tryLock(transaction: Queryable, what: keyof typeof LOCKS): Promise<boolean> {
  const { rows } = await transaction.query<{ locked: boolean }>(TRY_LOCK, [LOCKS[what]])
  return rows[0]?.locked === true
}
