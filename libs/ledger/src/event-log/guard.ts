import { type EventLog, EventLogDegradedError, LedgerSchemaError, WrongEventLogError } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'
import { isRefusal } from '../postgres/faults.ts'
import { chooseEventLog, countUnread, type EventLogUser, noteEventLog, POSTGRES_LOG } from './choice.ts'

export interface EventLogGuardOptions {
  readonly db: Database
  /** The service, for people, such as `ingest at host-1`. */
  readonly user: string
  /** Returns the name of the event log. It may ask the log. The name changes if another log replaces the current one. */
  readonly identify: () => Promise<string>
  /** Called once when the event log turns out to be wrong, and again only after it was right. */
  readonly onWrong: (error: WrongEventLogError) => void
  /** Called when this service changed the event log of the ledger because of its settings. */
  readonly onChanged: (name: string) => void
  /**
   * Whether no other service can use the ledger. Changed settings then change the event log of the ledger, unless the event log
   * in PostgreSQL still has unread records. Default: false.
   */
  readonly alone?: boolean
  /** Pause between two checks of the choice, in milliseconds. Default 15,000. */
  readonly againMs?: number
}

/** Pause after a failed check, in milliseconds. */
const RETRY_MS = 1_000
/**
 * Longest wait of appends and `checkChoice` for the first check of the choice, and for one that is long overdue, in milliseconds.
 * Other checks run in the background.
 */
const WAIT_MS_MAX = 1_500

/** An event log that knows whether the ledger names it. */
export interface GuardedEventLog extends EventLog {
  /**
   * Rejects unless the event log is the one that the ledger names.
   *
   * @throws {WrongEventLogError} while the ledger names another event log.
   * @throws {EventLogDegradedError} while the ledger refuses the query for its event log. Consumers then do not read.
   */
  checkChoice(): Promise<void>
}

/**
 * Wraps an event log so that it is used only while the ledger names it as the event log of all services. Any other event log is
 * read by no worker, or by workers of another ledger. Its appends reject, and its consumers do not read.
 *
 * While the ledger is unavailable, appends succeed, because accepting a logout needs no database.
 */
export function guardEventLog(real: EventLog, options: EventLogGuardOptions): GuardedEventLog {
  const { db, user, identify, onWrong, onChanged, alone = false, againMs = 15_000 } = options
  let name: string | null = null
  let state: 'unknown' | 'right' | WrongEventLogError = 'unknown'
  let refusal: Error | null = null
  /** The number of records appended since the last check that found the event log right. */
  let unsure = 0
  let dueAt = Number.NEGATIVE_INFINITY
  let compared: Promise<void> = Promise.resolve()
  let comparing: Promise<void> | null = null

  async function compare(): Promise<void> {
    try {
      // An event log that does not answer keeps its name, so that all services change at the same time.
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
      // Other checks report an unavailable log or ledger, and a missing migration. The last result stays valid.
      refusal =
        error instanceof Error && isRefusal(error) && !(error instanceof LedgerSchemaError) ? error : null
      dueAt = performance.now() + RETRY_MS
    }
  }

  /** Starts a check in the background if one is due. */
  function refresh(): void {
    const lateMs = performance.now() - dueAt
    if (comparing !== null || lateMs < 0) return
    comparing = compare().finally(() => {
      comparing = null
    })
    // An idle service may have missed a change, so that appends wait for this check.
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

/** Makes ours the event log of the ledger. @returns false if unread records in PostgreSQL would be lost. */
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
      ? `${differ} Unread records wait in the latter. Start without KAFKA_BROKERS until curfew doctor says that no record waits.`
      : `${differ} Give all services the same settings, or change the event log by: npx curfew event-log use`,
  )
}

/** The same error, with the number of records that were appended before the fault was known. */
function stranded({ message }: WrongEventLogError, name: string, records: number): WrongEventLogError {
  return new WrongEventLogError(
    `${message} Before this was known, up to ${records} records were appended to ${name}, and it may be that no worker reads them. Have the issuers repeat their posts of the last minutes, or start a worker with the settings of this service.`,
  )
}
