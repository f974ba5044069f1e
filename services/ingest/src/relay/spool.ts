import type { Spool } from '@curfew/client/spool'
import { CurfewError, EventLogDegradedError, type LogRecord } from '@curfew/domain'
import { createThrottle, type Log, type Metrics, type Service, sleep, within } from '@curfew/runtime'
import type { Append } from '../append.ts'

/** Logout tokens wait in the spool, because the event log was unavailable when they came; or the spool can take none. */
export class SpoolDegradedError extends CurfewError {
  override readonly code = 'ERR_RELAY_SPOOL_DEGRADED'
}

/** The place on disk where records wait while the event log is unavailable. */
export interface RelaySpool {
  /** Resolves once the record is on disk. @throws {Error} if the spool is full or its disk fails. */
  put(record: LogRecord): Promise<void>
  /** Appends the waiting records to the event log, oldest first. */
  readonly service: Service
}

export interface RelaySpoolDeps {
  readonly spool: Spool
  readonly append: Append
  readonly log: Log
  readonly metrics: Metrics
  readonly nowMs: () => number
}

/** Pause between two looks at the spool, in milliseconds. */
const PAUSE_MS = 1_000

export function createRelaySpool({ spool, append, log, metrics, nowMs }: RelaySpoolDeps): RelaySpool {
  const isTime = createThrottle()
  /** When Curfew accepted the oldest waiting record; null if none waits, or none was read yet. */
  let oldestMs: number | null = null
  metrics.gauge(
    'relay_spool_entries',
    'Logout tokens that wait in the spool for the event log.',
    () => spool.size().entries,
  )
  metrics.gauge('relay_spool_bytes', 'Bytes of the spool on disk.', () => spool.size().bytes)
  metrics.gauge(
    'relay_spool_oldest_seconds',
    'How long the oldest logout token in the spool has waited.',
    () => (oldestMs === null ? 0 : Math.max(0, nowMs() - oldestMs) / 1_000),
  )
  const appended = metrics.counter(
    'relay_spool_appended_total',
    'Logout tokens of the spool that were appended to the event log.',
  )

  async function deliver(entries: readonly Uint8Array[], stopping: AbortSignal): Promise<void> {
    stopping.throwIfAborted()
    const records = entries.map(decode)
    oldestMs = acceptedMsOf(records[0])
    await append(records, 'logout token')
    appended.inc(records.length)
    log.info({ event: 'relay.spool-appended', tokens: records.length, waiting: spool.size().entries })
  }

  async function drain(stopping: AbortSignal): Promise<void> {
    try {
      await spool.drain((entries) => deliver(entries, stopping))
      oldestMs = null
    } catch (error) {
      if (stopping.aborted || !isTime('waits')) return
      log.warn({ event: 'relay.spool-waits', tokens: spool.size().entries, err: error })
    }
  }

  return {
    async put(record) {
      await spool.append(encode(record))
      oldestMs ??= acceptedMsOf(record)
    },
    service: {
      name: 'spool of the relay',
      async run({ stopping, ready }) {
        ready()
        while (!stopping.aborted) {
          if (spool.size().entries > 0) await drain(stopping)
          await sleep(PAUSE_MS, stopping)
        }
      },
    },
  }
}

/** Rejects while records wait in the spool, or while it can take none. @throws {SpoolDegradedError} */
export async function checkSpool(spool: Pick<Spool, 'size' | 'check'>): Promise<void> {
  try {
    await spool.check()
  } catch (error) {
    throw new SpoolDegradedError(messageOf(error), { cause: error })
  }
  const { entries } = spool.size()
  if (entries > 0)
    throw new SpoolDegradedError(`${entries} logout tokens wait in the spool for the event log`)
}

/** Longest time of the check of an event log, in milliseconds. It is less than the server's limit for checks. */
const CHECK_MS_MAX = 1_500

/**
 * Changes the check of an event log for a service with a spool: the service works in part while the log is unavailable and the spool
 * takes tokens. A proxy that turned it off would lose these tokens.
 */
export function tolerant(check: () => Promise<void>, spool: Pick<Spool, 'check'>): () => Promise<void> {
  return async () => {
    try {
      const outcome = await within(check(), CHECK_MS_MAX, 'late')
      if (outcome === 'late') throw new Error(`no answer in ${CHECK_MS_MAX} ms`)
    } catch (error) {
      await spool.check().catch((full: unknown) => {
        throw new AggregateError([error, full], `${messageOf(error)}; ${messageOf(full)}`)
      })
      throw new EventLogDegradedError(`${messageOf(error)}; the relay uses its spool`, { cause: error })
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

interface Entry {
  readonly lane: LogRecord['lane']
  readonly key: string
  readonly headers: LogRecord['headers']
  /** In base64. */
  readonly value: string
}

function encode({ lane, key, headers, value }: LogRecord): Uint8Array {
  const entry: Entry = { lane, key, headers, value: Buffer.from(value).toString('base64') }
  return Buffer.from(JSON.stringify(entry))
}

function decode(bytes: Uint8Array): LogRecord {
  const { lane, key, headers, value }: Entry = JSON.parse(Buffer.from(bytes).toString('utf8'))
  return { lane, key, headers, value: Buffer.from(value, 'base64') }
}

function acceptedMsOf(record: LogRecord | undefined): number | null {
  const ms = Date.parse(record?.headers.ce_time ?? '')
  return Number.isNaN(ms) ? null : ms
}
