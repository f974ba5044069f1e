import { type Database, readDead, readOpenBreakers, readUnsettled } from '@curfew/ledger'
import type { Metrics } from '@curfew/runtime'
import type { Job } from '../repeat.ts'
import { createReading } from './reading.ts'

/**
 * Creates the jobs that report the unsettled deliveries, the dead letters and the open breakers of clients. The 50 worst clients
 * have values of their own; the others are summed as `(rest)`, so that the number of values is bounded.
 */
export function createClientJobs({ db, metrics }: { db: Database; metrics: Metrics }): readonly Job[] {
  const unsettled = createReading('unsettled deliveries', () => readUnsettled(db))
  const dead = createReading('dead letters', () => readDead(db))
  const breakers = createReading('open breakers', () => readOpenBreakers(db))
  const labelsOf = ({ issuer, clientId }: { readonly issuer: string; readonly clientId: string }) => ({
    issuer,
    client_id: clientId,
  })
  metrics.gauges(
    'deliveries_pending',
    'Deliveries that are not settled, at least: a long queue is counted in part.',
    ['issuer', 'client_id'],
    () => (unsettled.latest() ?? []).map((one) => ({ labels: labelsOf(one), value: one.deliveries })),
  )
  metrics.gauges(
    'delivery_oldest_pending_seconds',
    'Seconds since the acceptance of the oldest unsettled delivery of the interactive lane.',
    ['issuer', 'client_id'],
    () =>
      (unsettled.latest() ?? []).flatMap((one) =>
        one.oldestSeconds === null ? [] : [{ labels: labelsOf(one), value: one.oldestSeconds }],
      ),
  )
  metrics.gauges(
    'dead_letters',
    'Dead letters that are not replayed, at least: many are counted in part.',
    ['issuer', 'client_id'],
    () => (dead.latest() ?? []).map((one) => ({ labels: labelsOf(one), value: one.deadLetters })),
  )
  metrics.gauges(
    'endpoint_breakers_open',
    'Live workers that have the circuit breaker of an endpoint open.',
    ['issuer', 'client_id', 'channel'],
    () =>
      (breakers.latest() ?? []).map((one) => ({
        labels: { ...labelsOf(one), channel: one.channel },
        value: one.workers,
      })),
  )
  return [unsettled, dead, breakers]
}
