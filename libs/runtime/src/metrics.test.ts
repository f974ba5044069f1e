import { expect, test } from 'vitest'
import { createMetrics } from './metrics.ts'

test('each process has its own metrics, all with one prefix', async () => {
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
  expect(body.match(/^# TYPE (?!curfew_).*/gm)).toBeNull()
  expect((await other.expose()).body).not.toContain('curfew_settled_total')
})
