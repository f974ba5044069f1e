import { hostname } from 'node:os'
import { identifyKafka, readKafkaConnection } from '@curfew/broker'
import { chooseEventLog, countUnread, openDatabase, POSTGRES_LOG } from '@curfew/ledger'
import { readEnvironment, readOrExit } from '@curfew/runtime'
import { agreed } from '../calls/jobs.ts'
import { UsageError } from '../terminal/arguments.ts'

/**
 * `curfew event-log use`: makes all services of a ledger use the event log of the present settings. It changes the ledger
 * directly.
 *
 * @returns the exit status: 1 if the person declined.
 */
export async function runUse({ yes }: { yes: boolean }): Promise<number> {
  const { databaseUrl, kafka } = readOrExit((env) =>
    readEnvironment(env, (read) => ({
      databaseUrl: read.url('DATABASE_URL', { protocols: ['postgres:', 'postgresql:'], required: true }),
      kafka: readKafkaConnection(read),
    })),
  )
  if (!yes && !process.stdin.isTTY)
    throw new UsageError('There is no terminal to ask for confirmation: give --yes to change the event log.')
  const name = kafka === null ? POSTGRES_LOG : await identifyKafka({ ...kafka, clientId: 'curfew-cli' })
  const db = await openDatabase(databaseUrl, { applicationName: 'curfew event-log use' })
  try {
    let declined = false
    const user = `event-log use at ${hostname()}`
    const changed = await chooseEventLog(db, { user, name, takesTopics: true }, async (before) => {
      if (before === null) return true
      if (before === name) {
        if (kafka === null) return false
        process.stderr.write(
          `The event log is ${name} already. If another ledger has used its topics, this ledger takes over the records there. Stop the workers of the other ledger first.\n`,
        )
        declined = !yes && !(await agreed('Take the topics over?'))
        return !declined
      }
      const unread =
        before === POSTGRES_LOG
          ? `${await countUnread(db)} records wait there.`
          : 'curfew doctor shows how many records wait there.'
      process.stderr.write(
        `The event log is ${before}. ${unread} After the change they are not delivered. Stop every ingest first: a running ingest uses the old event log for up to 15 more seconds.\n`,
      )
      declined = !yes && !(await agreed(`Change it to ${name}?`))
      return !declined
    })
    if (declined) process.stderr.write('Nothing was changed.\n')
    else
      process.stdout.write(
        changed ? `The event log is ${name} from now on.\n` : `The event log is ${name} already.\n`,
      )
    return declined ? 1 : 0
  } finally {
    await db.end()
  }
}
