import { expect, test } from 'vitest'
import { createMetrics } from './metrics.ts'
import { VERSION } from './version.ts'

test('each process has its own metrics; those of the process and of Node.js have their usual names', async () => {
  const [one, other] = [createMetrics(), createMetrics()]
  let held = 2
  one.counter('settled_total', 'Settled.', ['state']).inc({ state: 'acknowledged' }, 3)
  one.gauge('held', 'Held.', () => held)
  const waiting = new Map([
    ['a', 1],
    ['b', 2],
  ])
  one.gauges('waiting', 'Waiting.', ['issuer'], () =>
    [...waiting].map(([issuer, value]) => ({ labels: { issuer }, value })),
  )
  waiting.delete('a')
  one.histogram('attempt_seconds', 'Attempts.', [0.1, 1]).observe(0.5)
  held = 5
  const { body, contentType } = await one.expose()
  expect(contentType).toContain('text/plain')
  expect(body).toContain('curfew_settled_total{state="acknowledged"} 3')
  expect(body).toContain('curfew_held 5')
  expect(body.match(/^curfew_waiting.*/gm)).toEqual(['curfew_waiting{issuer="b"} 2'])
  expect(body).toContain('curfew_attempt_seconds_bucket{le="1"} 1')
  expect(body.match(/^# TYPE (?!curfew_|process_|nodejs_).*/gm)).toBeNull()
  expect(body).toMatch(/^process_resident_memory_bytes \d+$/m)
  expect(body).toContain(`curfew_build_info{version="${VERSION}",node="${process.versions.node}"} 1`)
  expect((await other.expose()).body).not.toContain('curfew_settled_total')
})

test('a gauge without a value is left out, and comes back with its next value', async () => {
  const metrics = createMetrics()
  let value: number | null = null
  metrics.gauge('age_seconds', 'Age.', () => value)
  const shown = async () => (await metrics.expose()).body.match(/^curfew_age_seconds.*/gm)
  expect(await shown()).toBeNull()
  value = 3
  expect(await shown()).toEqual(['curfew_age_seconds 3'])
  value = null
  expect(await shown()).toBeNull()
})
