import { spawnSync } from 'node:child_process'
import { findPrometheus } from '../../deploy/prometheus/prometheus.ts'
import { skipWithout } from './shared-server.ts'

/**
 * The complaints of `promtool check metrics` about the metrics of a service: about names, types, units and help texts.
 *
 * @returns the empty text without complaints, and also without promtool.
 * @throws {Error} without promtool if `CI` is `true`.
 */
export async function promtoolComplaints(metrics: string): Promise<string> {
  const found = await findPrometheus()
  if ('missing' in found) {
    skipWithout('Prometheus', { how: 'none', lookedFor: [found.missing] })
    return ''
  }
  const { status, stdout, stderr } = spawnSync(found.promtool, ['check', 'metrics'], { input: metrics })
  return status === 0 ? '' : `${stdout}${stderr}`
}
