import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { diag, logs, metrics, trace } from '@opentelemetry/api'
import { expect, onTestFinished, test, vi } from 'vitest'
import { openOtlpReceiver } from '../../../../test/support/otlp/receiver.ts'
import { createLog } from '../log.ts'
import { readTelemetry } from './settings.ts'
import { startSpan } from './spans.ts'
import { startTelemetry } from './telemetry.ts'

// Goal: spans reach the collector by the protocol that the variables name, and a collector that fails costs one line in a minute.
// Method: the SDK itself, and a receiver that decodes OTLP with the definitions of the protocol.

/** Starts the export by these variables. `end` is what the end of the process does. */
async function start(env: Readonly<Record<string, string>>) {
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
  const lines: { readonly event: string; readonly message?: string }[] = []
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) }
  const releases: (() => unknown)[] = []
  await startTelemetry({
    ...readTelemetry(env),
    ...{ service: 'ingest', messaging: { 'messaging.system': 'kafka' } },
    scope: { defer: (_name, release) => void releases.push(release) },
    log: createLog({ service: 'test', level: 'info', destination }),
  })
  onTestFinished(() => {
    vi.unstubAllEnvs()
    // The SDK registers itself once in a process, and this process starts it again.
    for (const api of [trace, logs, metrics, diag]) api.disable()
  })
  return {
    lines,
    end: async () => {
      for (const release of releases) await release()
    },
  }
}
const step = () => startSpan({ name: 'step', role: 'producer', parent: null })

test.each([
  ['http/protobuf', 'application/x-protobuf'],
  ['http/json', 'application/json'],
])('spans are exported by %s, the last ones at the end of the process', async (protocol, type) => {
  await using receiver = await openOtlpReceiver()
  const { end, lines } = await start({
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
    OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
  })
  step().end()
  await end()
  expect(receiver.spans).toMatchObject([
    { service: 'curfew-ingest', name: 'step', attributes: { 'messaging.system': 'kafka' } },
  ])
  expect(receiver.requests).toEqual([`/v1/traces ${type}`])
  expect(receiver.text()).toContain('deployment.environment.name')
  // The command line may hold what must not leave the machine.
  expect(receiver.text()).not.toContain('process.command')
  expect(lines.map(({ event }) => event)).toEqual(['telemetry.started'])
  expect(step().recorded).toBe(false)
})

test('a collector that fails again and again is logged once in a minute', async () => {
  let exports = 0
  const server = createServer((request, response) => {
    exports += 1
    request.resume().once('end', () => response.writeHead(400).end('alice'))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const { lines, end } = await start({
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    OTEL_BSP_SCHEDULE_DELAY: '1',
  })
  for (let number = 1; number <= 3; number++) {
    step().end()
    await vi.waitFor(() => expect(exports).toBe(number), { timeout: 20_000, interval: 5 })
  }
  await end()
  const failures = lines.filter(({ event }) => event === 'telemetry.export-failed')
  expect(failures).toHaveLength(1)
  expect(failures[0]?.message).toBe(
    'Spans do not reach the collector at OTEL_EXPORTER_OTLP_ENDPOINT: it answered 400 Bad Request.',
  )
})

test('the line about a collector that does not run has its reason once', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  const { lines, end } = await start({
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
    ...{ OTEL_EXPORTER_OTLP_TIMEOUT: '50', OTEL_BSP_SCHEDULE_DELAY: '1' },
  })
  step().end()
  const messages = () =>
    lines.filter(({ event }) => event === 'telemetry.export-failed').map(({ message }) => message)
  await vi.waitFor(() => expect(messages()).not.toEqual([]), { timeout: 20_000, interval: 5 })
  await end()
  expect(messages()).toEqual([
    `Spans do not reach the collector at OTEL_EXPORTER_OTLP_ENDPOINT: connect ECONNREFUSED 127.0.0.1:${port}.`,
  ])
})

test('nothing starts unless a variable asks for it', async () => {
  const { lines, end } = await start({ OTEL_SERVICE_NAME: 'curfew' })
  expect(step().recorded).toBe(false)
  await end()
  expect(lines).toEqual([])
})
