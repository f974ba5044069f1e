import type { Queryable } from './database.ts'

/** Advisory locks for jobs that only one process at a time may do. Nothing else locks these numbers. */
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
  lifetimes: 4_872_364_230,
} as const

const TRY_LOCK = 'select pg_try_advisory_xact_lock($1) as locked'

/** Takes a lock until the transaction ends. @returns false if another process has it and does the job. */
export async function tryLock(transaction: Queryable, job: keyof typeof LOCKS): Promise<boolean> {
  const { rows } = await transaction.query<{ locked: boolean }>(TRY_LOCK, [LOCKS[job]])
  return rows[0]?.locked === true
}
