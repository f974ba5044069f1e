import { setTimeout as sleep } from 'node:timers/promises'
import { type Database, withTransaction } from '@curfew/ledger'
import type { Row } from '../scenarios.ts'
import { openStage } from '../stage.ts'
import { fullTurn, type Settings } from '../turns.ts'

/** The id of the advisory lock of the journal's projection, as in libs/ledger/src/postgres/locks.ts. */
const JOURNAL_LOCK = 4_872_364_198

/**
 * Compares Curfew at full speed with and without the projections of the bookkeeper (SLA rollups, receipts, Merkle log). While
 * another session holds the journal's lock, nothing is projected.
 */
export async function journal(settings: Settings): Promise<readonly Row[]> {
  const { rounds, rps, seconds, progress } = settings
  await using stage = await openStage(settings)
  await stage.register('rps', rps)
  const stream = { owedTo: rps }
  const turn = async () => (await fullTurn(stage, stream, seconds)).rate
  await turn()
  const [values, without, behindS]: [number[], number[], number[]] = [[], [], []]
  for (let round = 1; round <= rounds; round++) {
    await untilProjected(stage.db)
    values.push(await turn())
    const startedMs = performance.now()
    await untilProjected(stage.db)
    behindS.push((performance.now() - startedMs) / 1_000)
    without.push(await whileLocked(stage.db, turn))
    progress(
      `round ${round} of ${rounds}: with ${values.at(-1)?.toFixed(0)}/s, without ${without.at(-1)?.toFixed(0)}/s, ${behindS.at(-1)?.toFixed(1)} s behind at the end`,
    )
  }
  await untilProjected(stage.db)
  return [
    {
      measured: 'deliveries/s with rollups, receipts and the log',
      values,
      beside: { what: 'without', values: without },
      target: 'at least 0.90',
    },
    { measured: 'time until the projections caught up, s', values: behindS, beside: null },
  ]
}

async function untilProjected(db: Database): Promise<void> {
  for (;;) {
    const { rows } = await db.query<{ waits: boolean }>('select exists (select from journal) as waits')
    if (rows[0]?.waits === false) return
    await sleep(50)
  }
}

function whileLocked<Result>(db: Database, work: () => Promise<Result>): Promise<Result> {
  return withTransaction(db, async (transaction) => {
    await transaction.query('select pg_advisory_xact_lock($1)', [JOURNAL_LOCK])
    return work()
  })
}
