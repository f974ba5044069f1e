import { parseArgs } from 'node:util'
import { openKafka } from './broker.ts'

/** `npm run kafka`: one broker, or as many as `--brokers` says, until Ctrl-C. */
const { values: flags } = parseArgs({ options: { brokers: { type: 'string' } } })
const brokers = flags.brokers === undefined ? undefined : Number(flags.brokers)
if (brokers !== undefined && !(Number.isInteger(brokers) && brokers >= 1 && brokers <= 9)) {
  process.stderr.write('--brokers is a number from 1 to 9\n')
  process.exit(2)
}
const stopping = new Promise<void>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve())
})
const log = (line: string) => process.stderr.write(`${line}\n`)
const kafka = await (brokers === undefined ? openKafka({ log }) : openKafka({ log, brokers }))
if (kafka.how === 'none') {
  log(`No Kafka broker can be had here:\n${kafka.lookedFor.join('\n')}`)
  process.exitCode = 1
} else {
  log(
    kafka.how === 'environment'
      ? 'KAFKA_BROKERS names a broker already.'
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
