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

// One test for all that needs no process of its own: a start takes longer than everything else here.
test(
  'standalone exports what the sampler chose, and a collector that hangs delays nothing',
  LONG,
  async () => {
    await using receiver = await openOtlpReceiver()
    const {
      url,
      client,
      adminKey: key = '',
      process,
    } = await startStandalone(processes, {
      dataFolder: await processes.dataFolder(),
      timeoutMs: 200_000,
      env: {
        ...{ LOG_LEVEL: 'info', CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8', ...exportTo(receiver.endpoint) },
        ...{ OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0' },
        ...{ OTEL_BSP_EXPORT_TIMEOUT: '600000', OTEL_EXPORTER_OTLP_TIMEOUT: '600000' },
      },
    })
    const events = { client, url, key: key ?? '' }
    expect(process.stderr).toContain('"event":"telemetry.started"')

    // The caller does not sample, and the sampler chooses none of the requests without a caller.
    const unsampled = await logOutOfThree(client, events, '00')
    expect(unsampled.mail).toEqual([
      expect.stringMatching(`^00-${unsampled.traceId}-(?!${unsampled.callerSpanId})[0-9a-f]{16}-00$`),
    ])

    const sampled = await logOutOfThree(client, events)
    await expectOneTrace(receiver, sampled, events.key)
    expect(new Set(receiver.spans.map(({ traceId }) => traceId))).toEqual(new Set([sampled.traceId]))
    expect(new Set(receiver.spans.map(({ service }) => service))).toEqual(new Set(['curfew-standalone']))
    expect(new Set(receiver.requests)).toEqual(new Set(['/v1/traces application/x-protobuf']))

    receiver.hang()
    const exports = receiver.requests.length
    await logOutOfThree(client, events)
    // The logout is over, and the first export still waits for its answer.
    expect(receiver.requests.length).toBe(exports + 1)
    expect(process.stderr).not.toContain('telemetry.export-failed')
    process.signal('SIGTERM')
    expect(await process.exit(60_000)).toMatchObject({ code: 0 })
    expect(process.stderr).toContain('"event":"telemetry.flush-failed"')
  },
)

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
