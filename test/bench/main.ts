import { parseArgs } from 'node:util'
import type { SigningAlgorithm } from '@curfew/domain'
import { openKafka } from '../../deploy/kafka/broker.ts'
import { measurePipeline, type PipelineReport, pipelineTable } from './pipeline.ts'
import { measureScenario, SCENARIOS, type ScenarioReport, scenarioTable } from './scenarios.ts'
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
    /** Every scenario, beside what is measured without. */
    all: { type: 'boolean', default: false },
    /** This one, and nothing else. May be given several times. */
    scenario: { type: 'string', multiple: true, default: [] },
    /** Shrinks the million and the ten thousand, to try them. */
    scale: { type: 'string', default: '1' },
  },
})
const settings: Settings = {
  seconds: Number(flags.seconds),
  rounds: Number(flags.rounds),
  rps: Number(flags.rps),
  algorithm: flags.algorithm as SigningAlgorithm,
  scale: Number(flags.scale),
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

const unknown = flags.scenario.filter((name) => SCENARIOS[name] === undefined)
if (unknown.length > 0) {
  process.stderr.write(`no scenario ${unknown.join(', ')}; there are ${Object.keys(SCENARIOS).join(', ')}\n`)
  process.exit(2)
}
// Ended by a signal, Node would leave behind what it started; by exit, it takes it along.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => process.exit(1))

const reports = flags.scenario.length > 0 && !flags.all ? [] : await measurePipelines()
const scenarios: ScenarioReport[] = []
for (const name of flags.all ? Object.keys(SCENARIOS) : flags.scenario) {
  scenarios.push(await measureScenario(name, settings))
}
const { algorithm, rps, seconds, scale } = settings
const parts = {
  algorithm,
  relyingParties: rps,
  seconds,
  ...(reports.length > 0 && { reports }),
  ...(scenarios.length > 0 && { scale, scenarios }),
}
const scaled = scenarios.length > 0 && scale !== 1 ? `, scale ${scale}` : ''
const tables = [
  ...(reports.length > 0 ? [pipelineTable(reports)] : []),
  ...(scenarios.length > 0 ? [scenarioTable(scenarios)] : []),
]
process.stdout.write(
  flags.json
    ? `${JSON.stringify(parts, null, 2)}\n`
    : `\n${algorithm}, ${rps} relying parties, turns of ${seconds} s${scaled}; median (least to most)\n\n${tables.join('\n\n')}\n`,
)
if (scenarios.some(({ failed }) => failed !== null)) process.exitCode = 1
