import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { findPrometheus, type Prometheus } from '../../deploy/prometheus/prometheus.ts'
import { run } from '../../deploy/server/process.ts'
import { describeUnless, skipWithout } from '../support/shared-server.ts'

// Goal: Prometheus loads the alerting rules. Method: promtool reads the file.

const RULES = fileURLToPath(new URL('../../deploy/alerts/curfew.yaml', import.meta.url))

const found = await findPrometheus()
const missing =
  'missing' in found ? skipWithout('Prometheus', { how: 'none', lookedFor: [found.missing] }) : null
await describeUnless(missing, 'the alerting rules', () => {
  const { promtool } = found as Prometheus

  test('promtool accepts them', async () => {
    const { code, output } = await run(promtool, ['check', 'rules', RULES], { timeoutMs: 20_000 })
    expect(code, output).toBe(0)
  })
})
