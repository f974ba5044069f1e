import { type Database, enforceSessionQuotas, type SessionCount } from '@curfew/ledger'
import type { Log, Metrics } from '@curfew/runtime'
import { createReading } from './readings/reading.ts'
import type { Job } from './repeat.ts'

/** The most issuers in the metric. */
const WORST = 20

export interface SessionQuotasDeps {
  readonly db: Database
  /** The maximum number of sessions of an issuer that has no quota of its own. */
  readonly sessionsMax: number
  readonly log: Log
  readonly metrics: Metrics
}

/** Creates the job that counts the sessions of every issuer and marks the issuers that exceed their quota. */
export function createSessionQuotaJob({ db, sessionsMax, log, metrics }: SessionQuotasDeps): Job {
  const worst = createReading('session quotas', async () => {
    const round = await enforceSessionQuotas(db, { quota: sessionsMax })
    for (const { iss, sessions, quota } of round?.over ?? [])
      log.error({ event: 'sessions.over-quota', iss, sessions, quota })
    for (const { iss, sessions, quota } of round?.within ?? [])
      log.info({ event: 'sessions.within-quota', iss, sessions, quota })
    // Null means that another bookkeeper counts and reports the metric.
    return (round?.counts ?? []).toSorted((a, b) => ratio(b) - ratio(a)).slice(0, WORST)
  })
  metrics.gauges(
    'session_quota_ratio',
    'Sessions of an issuer as a share of its quota. Only the issuers with the highest shares of at least one half.',
    ['issuer'],
    () =>
      (worst.latest() ?? []).map((count) => ({
        labels: { issuer: count.issuer ?? count.iss },
        value: ratio(count),
      })),
  )
  return worst
}

function ratio({ sessions, quota }: SessionCount): number {
  return quota === 0 ? sessions : sessions / quota
}
