import { type EventLog, EventLogDegradedError, LedgerSchemaError, WrongEventLogError } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'
import { isRefusal } from '../postgres/faults.ts'
import { chooseEventLog, countUnread, type EventLogUser, noteEventLog, POSTGRES_LOG } from './choice.ts'

export interface EventLogGuardOptions {
  readonly db: Database
  /** The service, for people, such as `ingest at host-1`. */
  readonly user: string
  /** The name of the event log. It may need the log to answer, and it changes where another log takes the place of the one before. */
  readonly identify: () => Promise<string>
  /** Called when the event log turns out to be a wrong one, once for as long as it stays so. */
  readonly onWrong: (error: WrongEventLogError) => void
  /** Called when this service changed the event log of the ledger, by its settings alone. */
  readonly onChanged: (name: string) => void
  /**
   * Whether no other service can use the ledger. A change of the settings then changes the event log, unless the one before has records
   * in the ledger that were not read. Default: false.
   */
  readonly alone?: boolean
  /** Pause between two comparisons, in milliseconds. Default 15,000. */
  readonly againMs?: number
}

/** Pause after a comparison that failed, in milliseconds. */
const RETRY_MS = 1_000
/**
 * Longest that appends and checks wait for the first comparison, and for one after a time without any, in milliseconds. The others
 * hold nothing up.
 */
const WAIT_MS_MAX = 1_500

/** An event log, and whether it is the one that the ledger names. */
export interface GuardedEventLog extends EventLog {
  /**
   * Rejects while it is another one.
   *
   * @throws {WrongEventLogError}
   * @throws {EventLogDegradedError} while the ledger refuses to say which one it is. Consumers then take no part.
   */
  checkChoice(): Promise<void>
}

/**
 * An event log that is used only while the ledger names it as the event log of all services: another one has no workers that
 * read it, or workers of another ledger. Appends then reject, and the consumers take no part.
 *
 * While the ledger cannot be asked, appends go through: accepting a logout needs no database.
 */
export function guardEventLog(real: EventLog, options: EventLogGuardOptions): GuardedEventLog {
  const { db, user, identify, onWrong, onChanged, alone = false, againMs = 15_000 } = options
  let name: string | null = null
  let state: 'unknown' | 'right' | WrongEventLogError = 'unknown'
  let refusal: Error | null = null
  /** Records appended since the event log was last known to be the right one. */
  let unsure = 0
  let dueAt = Number.NEGATIVE_INFINITY
  let compared: Promise<void> = Promise.resolve()
  let comparing: Promise<void> | null = null

  async function compare(): Promise<void> {
    try {
      // All services change their minds together. A log that does not answer keeps the name that it had.
      const mine = await identify().catch((error: unknown) => name ?? Promise.reject(error))
      name = mine
      const before = unsure
      const chosen = await noteEventLog(db, { user, name: mine })
      const wasWrong = state instanceof WrongEventLogError
      const taken = chosen !== mine && alone && (await takeOver(db, { user, name: mine }))
      if (taken) onChanged(mine)
      state = chosen === mine || taken ? 'right' : wrong(mine, chosen, alone)
      if (state === 'right') unsure -= before
      else if (!wasWrong) onWrong(unsure === 0 ? state : stranded(state, mine, unsure))
      refusal = null
      dueAt = performance.now() + againMs
    } catch (error) {
      // That the log or the ledger is unavailable, or not migrated, their own checks report. What is known stays known.
      refusal =
        error instanceof Error && isRefusal(error) && !(error instanceof LedgerSchemaError) ? error : null
      dueAt = performance.now() + RETRY_MS
    }
  }

  /** Compares in the background when it is time. */
  function refresh(): void {
    const lateMs = performance.now() - dueAt
    if (comparing !== null || lateMs < 0) return
    comparing = compare().finally(() => {
      comparing = null
    })
    // A service that did nothing for a while may have missed a change.
    if (lateMs > againMs) compared = Promise.race([comparing, pause(WAIT_MS_MAX)])
  }

  refresh()

  async function insist(): Promise<void> {
    refresh()
    await compared
    if (state instanceof WrongEventLogError) throw state
  }

  async function checkChoice(): Promise<void> {
    await insist()
    if (state !== 'unknown' || refusal === null) return
    throw new EventLogDegradedError(
      `The ledger does not say which event log its services use, and no worker reads Kafka: ${refusal.message}`,
      { cause: refusal },
    )
  }

  return {
    async append(records) {
      await insist()
      unsure += records.length
      await real.append(records)
    },
    consume: ({ able = () => true, ...rest }, handle) =>
      real.consume(
        {
          ...rest,
          able: () => {
            refresh()
            return state === 'right' && able()
          },
        },
        handle,
      ),
    checkChoice,
    check: () => real.check(),
    close: () => real.close(),
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref()
  })
}

/** @returns whether the event log was changed: records in the ledger that were not read would be lost. */
function takeOver(db: Database, mine: EventLogUser): Promise<boolean> {
  return chooseEventLog(
    db,
    { ...mine, takesTopics: false },
    async (before) => before !== POSTGRES_LOG || (await countUnread(db)) === 0,
  )
}

function wrong(name: string, chosen: string, alone: boolean): WrongEventLogError {
  const differ = `KAFKA_BROKERS and KAFKA_TOPIC_PREFIX of this service name the event log "${name}", and this ledger has "${chosen}".`
  return new WrongEventLogError(
    alone
      ? `${differ} Records wait there. Start without KAFKA_BROKERS until curfew doctor says that no record waits.`
      : `${differ} Give all services the same settings, or change the event log by: npx curfew event-log use`,
  )
}

/** The same, with the number of records that were appended before it was known. */
function stranded({ message }: WrongEventLogError, name: string, records: number): WrongEventLogError {
  return new WrongEventLogError(
    `${message} Before this was known, up to ${records} records were appended to ${name} that no worker may read: have the issuers post again what they posted in the last minutes, or have a worker read them with the settings of this service.`,
  )
}
