import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { openCluster } from '../chaos/cluster.ts'
import { createTestDatabase } from '../support/database.ts'
import { describeWithKafka } from '../support/kafka.ts'
import { openOtlpReceiver } from '../support/otlp/receiver.ts'
import { spawnStandalone, startStandalone, useProcesses } from '../support/processes.ts'
import { expectOneTrace, exportTo, logOutOfThree } from './tracing-support.ts'

// Goal: one logout is one trace, from the request of the identity provider to the receipt, and no span holds personal data.
// Method: the real processes, real relying parties, and a receiver that decodes OTLP with the definitions of the protocol.

const processes = useProcesses()
const LONG = { timeout: 400_000 }

async function start(env: Readonly<Record<string, string>>) {
  const { url, client, adminKey, process } = await startStandalone(processes, {
    dataFolder: await processes.dataFolder(),
    timeoutMs: 200_000,
    env: { LOG_LEVEL: 'info', CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8', ...env },
  })
  return { process, client, events: { client, url, key: adminKey ?? '' } }
}

test.each([
  ['http/protobuf', 'application/x-protobuf'],
  ['http/json', 'application/json'],
])('one logout to three relying parties is one trace (%s)', LONG, async (protocol, type) => {
  await using receiver = await openOtlpReceiver()
  const env = { ...exportTo(receiver.endpoint), OTEL_EXPORTER_OTLP_PROTOCOL: protocol }
  const { client, events, process } = await start(env)
  const posted = await logOutOfThree(client, events)
  await expectOneTrace(receiver, posted, events.key)
  expect(new Set(receiver.spans.map(({ service }) => service))).toEqual(new Set(['curfew-standalone']))
  expect(new Set(receiver.requests)).toEqual(new Set([`/v1/traces ${type}`]))
  expect(receiver.spans.filter(({ name }) => /healthz|readyz|metrics/.test(name))).toEqual([])
  expect(process.stderr).toContain('"event":"telemetry.started"')
})

await describeWithKafka('over Kafka', (brokers) => {
  test('one logout through four processes is one trace', LONG, async () => {
    await using receiver = await openOtlpReceiver()
    await using database = await createTestDatabase()
    const roles = ['ingest', 'delivery', 'bookkeeper', 'console'] as const
    const env = exportTo(receiver.endpoint)
    await using cluster = await openCluster(processes, { brokers, database, roles, env })
    const url = cluster.ingestUrls[0] ?? ''
    for (const { clientId } of cluster.tallies) await cluster.client.deleteRelyingParty('main', clientId)
    const posted = await logOutOfThree(cluster.client, { client: cluster.events, url, key: cluster.key })
    await expectOneTrace(receiver, posted, cluster.key)
    const serviceOf = (name: string) =>
      receiver.spans.find((span) => span.traceId === posted.traceId && span.name === name)?.service
    expect(['send logout.events', 'plan', 'POST', 'receipt'].map(serviceOf)).toEqual([
      ...['curfew-ingest', 'curfew-delivery', 'curfew-delivery', 'curfew-bookkeeper'],
    ])
    for (const span of receiver.spans.filter(({ kind }) => kind === 'producer' || kind === 'consumer'))
      expect(span.attributes['messaging.system']).toBe('kafka')
  })
})

test('a caller that does not sample, and a ratio of 0, export nothing', LONG, async () => {
  await using receiver = await openOtlpReceiver()
  const env = {
    ...exportTo(receiver.endpoint),
    ...{ OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0' },
  }
  const { client, events, process } = await start(env)
  const { traceId, callerSpanId, mail } = await logOutOfThree(client, events, '00')
  expect(mail).toEqual([expect.stringMatching(`^00-${traceId}-(?!${callerSpanId})[0-9a-f]{16}-00$`)])
  process.signal('SIGTERM')
  expect(await process.exit()).toMatchObject({ code: 0 })
  expect(receiver.requests).toEqual([])
})

test(
  'without OTEL_ variables the trace of the caller still reaches the relying party that asks',
  LONG,
  async () => {
    const { client, events, process } = await start({})
    const { traceId, callerSpanId, mail, wiki } = await logOutOfThree(client, events)
    expect(mail).toEqual([expect.stringMatching(`^00-${traceId}-(?!${callerSpanId})[0-9a-f]{16}-01$`)])
    expect(wiki).toEqual([undefined])
    expect(process.stderr).not.toContain('telemetry')
  },
)

test('a collector that does not answer delays no logout, and the process ends in time', LONG, async () => {
  const held: unknown[] = []
  const server = createServer((_request, response) => void held.push(response))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  onTestFinished(close)
  const { client, events, process } = await start({
    ...exportTo(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    ...{ OTEL_BSP_EXPORT_TIMEOUT: '600000', OTEL_EXPORTER_OTLP_TIMEOUT: '600000' },
  })
  const failures = () => process.stderr.match(/"event":"telemetry.export-failed".*/g) ?? []
  await logOutOfThree(client, events)
  // The logout is over, and the first export still waits for its answer.
  expect(held.length).toBeGreaterThan(0)
  expect(failures()).toHaveLength(0)
  process.signal('SIGTERM')
  expect(await process.exit(60_000)).toMatchObject({ code: 0 })
  expect(process.stderr).toContain('"event":"telemetry.flush-failed"')
})

test('wrong OTEL_ variables end the process with status 2 and a line for each', LONG, async () => {
  const process = spawnStandalone(processes, {
    dataFolder: await processes.dataFolder(),
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http',
      OTEL_TRACES_SAMPLER: 'sometimes',
      OTEL_TRACES_SAMPLER_ARG: '1.5',
    },
  })
  onTestFinished(() => process.kill())
  expect(await process.exit(120_000)).toMatchObject({ code: 2 })
  expect(process.stderr.trimEnd().split('\n')).toEqual([
    expect.stringContaining('OTEL_EXPORTER_OTLP_ENDPOINT must be a URL'),
    expect.stringContaining('OTEL_EXPORTER_OTLP_PROTOCOL must be one of'),
    expect.stringContaining('OTEL_TRACES_SAMPLER must be one of'),
    expect.stringContaining('OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1'),
  ])
})
