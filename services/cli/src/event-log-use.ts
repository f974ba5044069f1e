import { hostname } from 'node:os'
import { identifyKafka, readKafkaConnection } from '@curfew/broker'
import { chooseEventLog, countUnread, openDatabase, POSTGRES_LOG } from '@curfew/ledger'
import { readEnvironment, readOrExit } from '@curfew/runtime'
import { parse, UsageError } from './arguments.ts'
import { agreed } from './jobs.ts'

/**
 * `curfew event-log use`: has all services of a ledger use the event log that the settings here name. Works on the ledger itself.
 *
 * @returns the exit status: 1 where it was declined.
 */
export async function useCommand(args: readonly string[]): Promise<number> {
  const { values } = parse(args, { yes: { type: 'boolean' } })
  const { databaseUrl, kafka } = readOrExit((env) =>
    readEnvironment(env, (read) => ({
      databaseUrl: read.url('DATABASE_URL', { protocols: ['postgres:', 'postgresql:'], required: true }),
      kafka: readKafkaConnection(read),
    })),
  )
  const yes = values.yes === true
  if (!yes && !process.stdin.isTTY)
    throw new UsageError('Nobody is here to be asked: give --yes to change the event log.')
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
          `The event log is ${name} already. Records that another ledger left there become those of this ledger. Stop the workers of that ledger first.\n`,
        )
        declined = !yes && !(await agreed('Take the topics over?'))
        return !declined
      }
      const unread =
        before === POSTGRES_LOG
          ? `${await countUnread(db)} records wait there.`
          : 'See curfew doctor for how many records wait there.'
      process.stderr.write(
        `The event log is ${before}. ${unread} While they are not read, nobody is told of them. Stop every ingest first: one that runs accepts for the old event log for up to 15 seconds more.\n`,
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
