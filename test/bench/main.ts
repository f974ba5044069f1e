import { parseArgs } from 'node:util'
import type { SigningAlgorithm } from '@curfew/domain'
import { openKafka } from '../../deploy/kafka/broker.ts'
import { measurePipeline, type PipelineReport, pipelineTable } from './pipeline.ts'
import { measureScenario, SCENARIOS, type ScenarioReport, scenarioTable } from './scenarios.ts'
import type { Settings } from './turns.ts'

// npm run bench: measures the cost of Curfew beside the cost that cannot be avoided. On a shared machine absolute figures mean
// nothing, but the ratio of a pair of turns does.

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    /** Length of one turn, in seconds. */
    seconds: { type: 'string', default: '6' },
    rounds: { type: 'string', default: '3' },
    rps: { type: 'string', default: '10' },
    algorithm: { type: 'string', default: 'ES256' },
    'no-kafka': { type: 'boolean', default: false },
    /** Runs all scenarios, in addition to the pipeline. */
    all: { type: 'boolean', default: false },
    /** Runs only this scenario. May be given several times. */
    scenario: { type: 'string', multiple: true, default: [] },
    /** Scales down the large numbers of the scenarios, to try them. */
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
    settings.progress(`Not measured over Kafka, because no broker was found:\n${kafka.lookedFor.join('\n')}`)
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
  process.stderr.write(
    `unknown scenario ${unknown.join(', ')}; the scenarios are ${Object.keys(SCENARIOS).join(', ')}\n`,
  )
  process.exit(2)
}
// A signal would end Node without its child processes. An exit ends them too.
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
