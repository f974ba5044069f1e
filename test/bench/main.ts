import { parseArgs } from 'node:util'
import type { SigningAlgorithm } from '@curfew/domain'
import { openKafka } from '../../deploy/kafka/broker.ts'
import { measurePipeline, type PipelineReport, pipelineTable } from './pipeline.ts'
import type { Settings } from './turns.ts'

// npm run bench: what Curfew costs beside what cannot be avoided. Absolute figures mean nothing on a shared machine; the
// ratio of a pair of turns does.

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    /** Length of one turn. */
    seconds: { type: 'string', default: '6' },
    rounds: { type: 'string', default: '3' },
    rps: { type: 'string', default: '10' },
    algorithm: { type: 'string', default: 'ES256' },
    'no-kafka': { type: 'boolean', default: false },
  },
})
const settings: Settings = {
  seconds: Number(flags.seconds),
  rounds: Number(flags.rounds),
  rps: Number(flags.rps),
  algorithm: flags.algorithm as SigningAlgorithm,
  scale: 1,
  progress: (text) => void process.stderr.write(`${text}\n`),
}

async function measurePipelines(): Promise<readonly PipelineReport[]> {
  const reports = [await measurePipeline('PostgreSQL event log', {}, settings)]
  if (flags['no-kafka']) return reports
  const kafka = await openKafka({ log: settings.progress })
  if (kafka.how === 'none') {
    settings.progress(`Not measured over Kafka, for no broker can be had:\n${kafka.lookedFor.join('\n')}`)
    return reports
  }
  try {
    const env = {
      KAFKA_BROKERS: kafka.brokers.join(','),
      KAFKA_REPLICATION_FACTOR: '1',
      KAFKA_TOPIC_PREFIX: `bench.${Date.now()}.`,
    }
    reports.push(await measurePipeline('Kafka event log', env, settings))
  } finally {
    await kafka.stop()
  }
  return reports
}

const reports = await measurePipelines()
const { algorithm, rps, seconds } = settings
process.stdout.write(
  flags.json
    ? `${JSON.stringify({ algorithm, relyingParties: rps, seconds, reports }, null, 2)}\n`
    : `\n${algorithm}, ${rps} relying parties, turns of ${seconds} s; median (least to most)\n\n${pipelineTable(reports)}\n`,
)
