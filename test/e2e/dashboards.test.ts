import { afterAll, beforeAll, expect, test } from 'vitest'
import { findPrometheus, type Prometheus } from '../../deploy/prometheus/prometheus.ts'
import { CLIENTS, JOB, type Observed, openObserved } from '../support/observed.ts'
import { useProcesses } from '../support/processes.ts'
import { describeUnless, skipWithout } from '../support/shared-server.ts'

// Goal: an operator sees in Prometheus what happens to logouts.
// Method: a real Prometheus scrapes a real standalone with traffic.

const found = await findPrometheus()
const missing =
  'missing' in found ? skipWithout('Prometheus', { how: 'none', lookedFor: [found.missing] }) : null
await describeUnless(missing, 'a running Curfew', () => {
  const processes = useProcesses('file')
  let observed: Observed
  beforeAll(async () => {
    observed = await openObserved({ processes, prometheus: (found as Prometheus).prometheus })
  }, 300_000)
  afterAll(async () => {
    await observed?.close()
    await processes.end()
  })

  test('is scraped, and its metrics tell the fates of deliveries apart', async () => {
    expect(await observed.query(`up{job="${JOB}"}`)).toMatchObject([{ value: 1 }])
    const states = await observed.query(`sum by (state) (curfew_deliveries_settled_total{job="${JOB}"})`)
    expect(Object.fromEntries(states.map(({ labels, value }) => [labels.state, value]))).toMatchObject({
      acknowledged: expect.any(Number),
      dead_lettered: expect.any(Number),
      pending: expect.any(Number),
    })
    const { items } = await observed.client.listDeadLetters({ client_id: CLIENTS.deadLettered })
    expect(items.length).toBeGreaterThan(10)
  })

  test('a wrong expression is an error with the words of Prometheus', async () => {
    await expect(observed.query('sum(')).rejects.toThrow(/^Prometheus refuses sum\(: .*parse error/)
  })
})
