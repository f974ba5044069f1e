import { afterAll, beforeAll, expect, test } from 'vitest'
import { findPrometheus, type Prometheus } from '../../deploy/prometheus/prometheus.ts'
import { type Observed, openObserved } from '../support/observed.ts'
import { useProcesses } from '../support/processes.ts'
import { describeUnless, skipWithout } from '../support/shared-server.ts'
import { ALERTS } from './rules.ts'

// Goal: the alerts ask about metrics that Curfew has, and see the faults of a running Curfew.
// Method: a real Prometheus scrapes a standalone with traffic, and evaluates the expression of every alert.

/** Metrics that have values only over Kafka. The standalone of this test uses PostgreSQL. */
const KAFKA_ONLY: readonly string[] = [
  'curfew_event_log_unassigned_partitions',
  'curfew_event_log_topic_faults',
  'curfew_event_log_records_removed_total',
]
/** The alerts whose faults the traffic makes. */
const FAULTS: readonly string[] = [
  'CurfewQuarantinedLogouts',
  'CurfewSessionsOrphaned',
  'CurfewEndpointUnavailable',
  'CurfewDeadLetters',
]
/** The alerts of processes and of the event log, which work. */
const WELL: readonly string[] = [
  'CurfewEventLogUnseen',
  'CurfewEventLogLate',
  'CurfewNoWorker',
  'CurfewNoBookkeeper',
  'CurfewLeaseTooOld',
  'CurfewPartitionsWithoutWorker',
  'CurfewTopicLosesRecords',
  'CurfewRelaySpoolWaits',
]

const found = await findPrometheus()
const missing =
  'missing' in found ? skipWithout('Prometheus', { how: 'none', lookedFor: [found.missing] }) : null
await describeUnless(missing, 'the alerts of a running Curfew', () => {
  const processes = useProcesses('file')
  let observed: Observed
  /** The metrics that Curfew declares, also those without a value. */
  let declared: readonly string[]
  beforeAll(async () => {
    observed = await openObserved({ processes, prometheus: (found as Prometheus).prometheus })
    const exposed = await (await fetch(`${observed.url}/metrics`)).text()
    declared = [...exposed.matchAll(/^# TYPE (\w+)/gm)].map(([, name = '']) => name)
  }, 300_000)
  afterAll(async () => {
    await observed?.close()
    await processes.end()
  })
  test('have expressions that Prometheus evaluates', async () => {
    for (const { alert, expr } of ALERTS.values())
      await expect(observed.query(expr), alert).resolves.toBeInstanceOf(Array)
  })

  test('see its faults', { timeout: 200_000 }, async () => {
    for (const name of FAULTS) await observed.until(ALERTS.get(name)?.expr ?? '')
  })

  test('are quiet about its parts that work', async () => {
    for (const name of WELL) expect(await observed.query(ALERTS.get(name)?.expr ?? ''), name).toEqual([])
  })

  test('ask nothing of PostgreSQL that only Kafka can answer', async () => {
    for (const metric of KAFKA_ONLY) {
      expect(declared).toContain(metric)
      expect(await observed.query(metric), metric).toEqual([])
    }
  })
})
