import { parseArgs } from 'node:util'
import { openKafka } from './broker.ts'

/** `npm run kafka`: runs one broker, or as many as `--brokers` asks for, until Ctrl-C. */
const brokers = readBrokers()
const stopping = new Promise<void>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve())
})
const log = (line: string) => process.stderr.write(`${line}\n`)
const kafka = await (brokers === undefined ? openKafka({ log }) : openKafka({ log, brokers }))
if (kafka.how === 'none') {
  log(`No Kafka broker is available here:\n${kafka.lookedFor.join('\n')}`)
  process.exitCode = 1
} else {
  log(
    kafka.how === 'environment'
      ? 'KAFKA_BROKERS already names a broker.'
      : 'Kafka is ready. Ctrl-C ends it and deletes its data. Paste this where you start Curfew:',
  )
  const copies = kafka.how === 'environment' ? '' : ` KAFKA_REPLICATION_FACTOR=${kafka.replicationFactor}`
  process.stdout.write(`export KAFKA_BROKERS=${kafka.brokers.join(',')}${copies}\n`)
  if (kafka.how !== 'environment') {
    // A promise alone does not keep a process alive.
    const awake = setInterval(() => undefined, 3_600_000)
    await stopping
    clearInterval(awake)
    await kafka.stop()
  }
}

/** The number of brokers that `--brokers` asks for. Any other argument ends the process with the usage. */
function readBrokers(): number | undefined {
  try {
    const { brokers } = parseArgs({ options: { brokers: { type: 'string' } } }).values
    if (brokers === undefined) return undefined
    if (/^[1-9]$/.test(brokers)) return Number(brokers)
  } catch (error) {
    // parseArgs throws this kind of TypeError for an unknown option.
    if (!(error instanceof TypeError && 'code' in error)) throw error
  }
  process.stderr.write('npm run kafka [-- --brokers N], where N is a number from 1 to 9\n')
  process.exit(2)
}
