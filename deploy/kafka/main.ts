import { openKafka } from './broker.ts'

/** `npm run kafka`: one broker, until Ctrl-C. */
const stopping = new Promise<void>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve())
})
const kafka = await openKafka({ log: (line) => process.stderr.write(`${line}\n`) })
if (kafka.how === 'none') {
  process.stderr.write(`No Kafka broker can be had here:\n${kafka.lookedFor.join('\n')}\n`)
  process.exitCode = 1
} else {
  process.stderr.write(
    kafka.how === 'environment'
      ? 'KAFKA_BROKERS names a broker already.\n'
      : 'Kafka is ready. Ctrl-C ends it and deletes its data. Paste this where you start Curfew:\n',
  )
  // One broker holds one copy.
  const copies = kafka.how === 'environment' ? '' : ' KAFKA_REPLICATION_FACTOR=1'
  process.stdout.write(`export KAFKA_BROKERS=${kafka.brokers.join(',')}${copies}\n`)
  if (kafka.how !== 'environment') {
    // A promise alone does not keep a process alive.
    const awake = setInterval(() => undefined, 3_600_000)
    await stopping
    clearInterval(awake)
    await kafka.stop()
  }
}
