import {
  type ConsumedRecord,
  type Consumer,
  type EventLog,
  EventLogUnavailableError,
  type LogLane,
  type LogRecord,
  type Quarantined,
} from '@curfew/domain'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

// Goal: every implementation of the EventLog port keeps the contract of the port.
// Method: the same tests for every implementation. Its harness can open the log as another process does, kill a process that
// consumes, and make the broker unavailable.

/** A process that consumes one lane, has received one batch, and never finishes it. */
export interface Victim {
  /** The values of the records that it received. */
  readonly handed: readonly string[]
  /** Sends SIGKILL, or does the nearest equivalent. */
  kill(): Promise<void>
}

/** One fresh, empty log. */
export interface EventLogHarness {
  /** Opens the log as another process does, on the same records. The suite closes it. */
  open(): Promise<EventLog>
  /** Resolves when the victim has received its first batch. The lane must not be empty. */
  openVictim(lane: LogLane): Promise<Victim>
  /** Reads the quarantined records. */
  readQuarantine(): Promise<readonly { readonly value: string; readonly reason: string }[]>
  /** Makes the broker unavailable, and available again with all its records. */
  makeUnavailable(): Promise<void>
  makeAvailable(): Promise<void>
  /** Closes everything that the harness opened itself. */
  close(): Promise<void>
}

export interface EventLogContractOptions {
  /** The longest wait for an expected change, including rebalances and reconnections, in milliseconds. */
  readonly patienceMs?: number
  /** How long to watch that a change does not happen, in milliseconds. */
  readonly quietMs?: number
  /** The longest time to a rejection while the broker is unavailable, in milliseconds. */
  readonly rejectionMs?: number
  /** Whether other batches of the same partitions continue during a slow batch. Default true. */
  readonly slowBatches?: boolean
}

interface Seen {
  readonly key: string
  readonly value: string
}
type Answer = (
  batch: readonly ConsumedRecord[],
  slow: () => void,
) => Promise<readonly Quarantined[]> | undefined
interface Watch {
  readonly consumer: Consumer
  readonly batches: ConsumedRecord[][]
  readonly errors: unknown[]
  /** The values in the order of handling. */
  values(): string[]
  seen(): Seen[]
}

const text = ({ value }: { readonly value: Uint8Array }) => Buffer.from(value).toString()
const KEYS = Array.from({ length: 24 }, (_, index) => `key-${index}`)

function record(key: string, value: string, lane: LogLane = 'interactive'): LogRecord {
  return { lane, key, value: Buffer.from(value), headers: { ce_id: value, ce_type: 'test' } }
}

/** `count` records for every key; the value of a record is its key and its number. */
function numbered(keys: readonly string[], from: number, count: number, lane?: LogLane): LogRecord[] {
  return Array.from({ length: count }, (_, n) =>
    keys.map((key) => record(key, `${key}#${from + n}`, lane)),
  ).flat()
}

/** Throws unless the first occurrences of every key's values are in the order of their numbers. */
function expectOrder(seen: readonly Seen[]): void {
  const known = new Set<string>()
  const last = new Map<string, number>()
  for (const { key, value } of seen) {
    if (known.has(value)) continue
    known.add(value)
    const number = Number(value.split('#')[1])
    expect(number, `${value} after ${key}#${last.get(key)}`).toBeGreaterThan(last.get(key) ?? -1)
    last.set(key, number)
  }
}

export function eventLogContract(
  name: string,
  openHarness: () => Promise<EventLogHarness>,
  {
    patienceMs = 10_000,
    quietMs = 150,
    rejectionMs = 8_000,
    slowBatches = true,
  }: EventLogContractOptions = {},
): void {
  describe(`${name} keeps the contract of the event log`, { timeout: patienceMs * 6 }, () => {
    let harness: EventLogHarness
    let log: EventLog
    let consumers: Consumer[]
    let logs: EventLog[]
    /** Releases waiting handlers at the end, so that consumers can stop. */
    let ended: PromiseWithResolvers<void>

    beforeEach(async () => {
      consumers = []
      logs = []
      ended = Promise.withResolvers()
      harness = await openHarness()
      log = await openLog()
    })
    afterEach(async () => {
      ended.resolve()
      await Promise.all(consumers.map((consumer) => consumer.stop()))
      await Promise.all(logs.map((opened) => opened.close()))
      await harness.close()
    })

    async function openLog(): Promise<EventLog> {
      const opened = await harness.open()
      logs.push(opened)
      return opened
    }

    interface WatchOptions {
      readonly lane?: LogLane
      readonly batchSize?: number
      readonly batchesInFlight?: number
    }
    /** Consumes, and records every batch when `answer` has finished it. */
    function watch(from: EventLog, options: WatchOptions = {}, answer: Answer = () => undefined): Watch {
      const batches: ConsumedRecord[][] = []
      const errors: unknown[] = []
      const { lane = 'interactive', batchSize = 50, batchesInFlight = 2 } = options
      const consumer = from.consume(
        { lane, batchSize, batchesInFlight, onError: (error) => errors.push(error) },
        async (batch, slow) => {
          const refused = (await answer(batch, slow)) ?? []
          batches.push([...batch])
          return refused
        },
      )
      consumers.push(consumer)
      const seen = () => batches.flat().map((one) => ({ key: one.key, value: text(one) }))
      return { consumer, batches, errors, seen, values: () => seen().map(({ value }) => value) }
    }

    const until = (condition: () => unknown) =>
      expect.poll(condition, { timeout: patienceMs, interval: 5 }).toBeTruthy()
    const hasAll = (seen: readonly string[], wanted: readonly LogRecord[]) => {
      const values = new Set(seen)
      return wanted.every((one) => values.has(text(one)))
    }

    test('a record is handed out unchanged', async () => {
      const watched = watch(log)
      const value = Buffer.from([0, 1, 0xff, 0x80, 10, 13])
      const headers = { ce_source: 'https://idp.example/ä', traceparent: '00-1-2-01', quoted: '{"a":"\\"}' }
      await log.append([{ lane: 'interactive', key: '["https://idp.example","ü{,}"]', value, headers }])
      await until(() => watched.batches.length > 0)
      const [one] = watched.batches.flat()
      expect(one).toMatchObject({ lane: 'interactive', key: '["https://idp.example","ü{,}"]', headers })
      expect(Buffer.from(one?.value ?? [])).toEqual(value)
      expect(one?.position).not.toBe('')
    })

    test('an append of no records resolves, and so does a check of an available log', async () => {
      await log.append([])
      await log.check()
    })

    test('concurrent appends keep the order of their calls within a key, with several consumers', async () => {
      const all: Seen[] = []
      const note: Answer = (batch) =>
        void all.push(...batch.map((one) => ({ key: one.key, value: text(one) })))
      watch(log, {}, note)
      watch(await openLog(), {}, note)
      const records = numbered(KEYS, 0, 40)
      const appends: Promise<void>[] = []
      for (let at = 0; at < records.length; at += 7) {
        appends.push(log.append(records.slice(at, at + 7)))
        // Some in one tick, some while others are in flight.
        if (at % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
      await Promise.all(appends)
      await until(() =>
        hasAll(
          all.map(({ value }) => value),
          records,
        ),
      )
      expectOrder(all)
    })

    test('under load batches are large, but never larger than requested', async () => {
      const gate = Promise.withResolvers<void>()
      const watched = watch(log, { batchSize: 40 }, () => gate.promise.then(() => []))
      const records = numbered(KEYS, 0, 50)
      await log.append(records)
      gate.resolve()
      await until(() => hasAll(watched.values(), records))
      const sizes = watched.batches.map((batch) => batch.length)
      expect(Math.max(...sizes)).toBeLessThanOrEqual(40)
      expect(sizes.length).toBeLessThan(records.length / 4)
    })

    test('a slow handler gets no more batches than it allows in flight, and no key is in two batches at once', async () => {
      let gate = Promise.withResolvers<void>()
      const out: (readonly ConsumedRecord[])[] = []
      const overlaps: ConsumedRecord[] = []
      const watched = watch(log, { batchSize: 10, batchesInFlight: 3 }, async (batch) => {
        const keys = new Set(out.flat().map(({ key }) => key))
        overlaps.push(...batch.filter(({ key }) => keys.has(key)))
        out.push(batch)
        await Promise.race([gate.promise, ended.promise])
        out.splice(out.indexOf(batch), 1)
        return []
      })
      const records = numbered(KEYS, 0, 10)
      await log.append(records)
      await until(() => out.length === 3)
      await quiet()
      expect(out.length).toBe(3)
      expect(out.flat().length).toBeLessThanOrEqual(30)
      gate.resolve()
      gate = Promise.withResolvers()
      gate.resolve()
      await until(() => hasAll(watched.values(), records))
      expect(overlaps).toEqual([])
      expectOrder(watched.seen())
    })

    // A log without separate slow batches does not have this test, instead of a skipped one.
    if (slowBatches)
      test('a slow batch delays no other key, blocks its own keys, and is committed when it is done', async () => {
        const gate = Promise.withResolvers<void>()
        const [large, ...others] = numbered(['large', ...KEYS], 0, 1)
        if (large === undefined) throw new Error('expected a record')
        let handling = 0
        const watched = watch(log, { batchSize: 10, batchesInFlight: 1 }, async (batch, slow) => {
          handling += 1
          if (batch.map(text).includes('large#0')) {
            slow()
            await Promise.race([gate.promise, ended.promise])
          }
          handling -= 1
          return []
        })
        await log.append([large])
        await until(() => handling === 1)
        await log.append([...numbered(['large'], 1, 1), ...others])
        await until(() => hasAll(watched.values(), others))
        await quiet()
        expect(watched.values().filter((value) => value.startsWith('large'))).toEqual([])
        gate.resolve()
        await until(() => watched.values().includes('large#1'))
        expectOrder(watched.seen())
        await watched.consumer.stop()
        const again = watch(await openLog())
        await quiet()
        expect(again.values()).toEqual([])
      })

    test('a batch whose handler rejects is handed out again, with the same records in the same order', async () => {
      let failures = 3
      const tries: string[][] = []
      const watched = watch(log, {}, (batch) => {
        tries.push(batch.map(text))
        if (failures-- > 0) throw new Error('the ledger is unavailable')
      })
      const records = numbered(['only'], 0, 8)
      await log.append(records)
      await until(() => hasAll(watched.values(), records))
      const first = tries[0] ?? []
      for (const again of tries.slice(1, 3)) expect(again.slice(0, first.length)).toEqual(first)
      expectOrder(watched.seen())
      expect(
        watched.errors.filter((error) => String(error).includes('the ledger is unavailable')),
      ).toHaveLength(3)
    })

    test('records of a process that is killed between handling and commit go to another consumer', async () => {
      const records = numbered(KEYS, 0, 5)
      await log.append(records)
      const victim = await harness.openVictim('interactive')
      expect(victim.handed.length).toBeGreaterThan(0)
      const watched = watch(log)
      const rest = records.filter((one) => !victim.handed.includes(text(one)))
      await victim.kill()
      await until(() => hasAll(watched.values(), records))
      expect(rest.length).toBeLessThan(records.length)
      expectOrder(watched.seen())
    })

    test('consumers that join and leave while batches are in flight lose no record, and never handle one key twice at once', async () => {
      const all: Seen[] = []
      const busy = new Map<string, number>()
      const overlaps: string[] = []
      let settled = false
      const handler: Answer = async (batch) => {
        const keys = new Set(batch.map(({ key }) => key))
        for (const key of keys) {
          const count = (busy.get(key) ?? 0) + 1
          busy.set(key, count)
          if (settled && count > 1) overlaps.push(key)
        }
        await new Promise((resolve) => setTimeout(resolve, 2))
        for (const key of keys) busy.set(key, (busy.get(key) ?? 1) - 1)
        all.push(...batch.map((one) => ({ key: one.key, value: text(one) })))
        return []
      }
      const sent: LogRecord[] = []
      const send = async (count: number) => {
        const records = numbered(KEYS, sent.length / KEYS.length, count)
        sent.push(...records)
        await log.append(records)
      }
      const first = watch(log, { batchSize: 10 }, handler)
      await send(10)
      await until(() => first.batches.length > 0)
      const second = watch(await openLog(), { batchSize: 10 }, handler)
      await until(async () => {
        await send(1)
        return second.batches.length > 0
      })
      await until(() =>
        hasAll(
          all.map(({ value }) => value),
          sent,
        ),
      )
      settled = true
      await send(20)
      await until(() =>
        hasAll(
          all.map(({ value }) => value),
          sent,
        ),
      )
      settled = false
      await send(10)
      await first.consumer.stop()
      const before = second.batches.length
      await send(10)
      await until(() =>
        hasAll(
          all.map(({ value }) => value),
          sent,
        ),
      )
      expect(second.batches.length).toBeGreaterThan(before)
      expect(overlaps).toEqual([])
      expectOrder(all)
    })

    test('a paused consumer hands out nothing until it is resumed', async () => {
      const watched = watch(log)
      await log.append([record('a', 'a#0')])
      await until(() => hasAll(watched.values(), [record('a', 'a#0')]))
      watched.consumer.pause()
      await log.append([record('a', 'a#1')])
      await quiet()
      expect(watched.values()).toEqual(['a#0'])
      watched.consumer.resume()
      await until(() => watched.values().includes('a#1'))
    })

    test('a consumer reports its state', async () => {
      const { consumer } = watch(log)
      await until(() => consumer.status().state === 'consuming')
      await consumer.stop()
      expect(consumer.status()).toEqual({ state: 'left' })
    })

    test('stop waits for batches in flight and commits them, and another consumer does not see them', async () => {
      const gate = Promise.withResolvers<void>()
      const started = Promise.withResolvers<void>()
      const watched = watch(log, { batchSize: 5, batchesInFlight: 1 }, async () => {
        started.resolve()
        await gate.promise
        return []
      })
      const records = numbered(['a'], 0, 12)
      await log.append(records)
      await started.promise
      let stopped = false
      const stopping = Promise.all([watched.consumer.stop(), watched.consumer.stop()]).then(() => {
        stopped = true
      })
      await quiet()
      expect(stopped).toBe(false)
      gate.resolve()
      await stopping
      await watched.consumer.stop()
      const handled = watched.values()
      expect(handled.length).toBeGreaterThan(0)
      const later = watch(await openLog())
      const rest = records.filter((one) => !handled.includes(text(one)))
      await log.append([record('a', 'a#99')])
      await until(() => later.values().includes('a#99'))
      expect(later.values()).toEqual([...rest.map(text), 'a#99'])
    })

    test('a refused record is quarantined with the reason, and the records around it are committed', async () => {
      const watched = watch(log, {}, async (batch) =>
        batch
          .filter((one) => text(one).includes('bad'))
          .map((one) => ({ record: one, kind: 'unreadable' as const, reason: `not JSON: ${one.key}` })),
      )
      const records = [record('a', 'a#0'), record('a', 'bad#1'), record('a', 'a#2'), record('b', 'b#0')]
      await log.append(records)
      await until(() => hasAll(watched.values(), records))
      await watched.consumer.stop()
      const quarantined = await harness.readQuarantine()
      expect(quarantined).toEqual([{ value: 'bad#1', reason: 'not JSON: a' }])
      const later = watch(await openLog())
      await log.append([record('a', 'a#3')])
      await until(() => later.values().includes('a#3'))
      expect(later.values()).toEqual(['a#3'])
    })

    test('a blocked lane does not block another lane', async () => {
      const blocked = watch(log, { lane: 'bulk' }, () => ended.promise.then(() => []))
      const watched = watch(log)
      await log.append([...numbered(KEYS, 0, 5, 'bulk'), ...numbered(KEYS, 0, 5)])
      await until(() => hasAll(watched.values(), numbered(KEYS, 0, 5)))
      expect(watched.batches.flat().every(({ lane }) => lane === 'interactive')).toBe(true)
      expect(blocked.batches).toEqual([])
    })

    test('session records are consumed and quarantined in their own lane, apart from logouts', async () => {
      const sessions = watch(log, { lane: 'sessions' }, async (batch) =>
        batch
          .filter((one) => text(one).startsWith('bad'))
          .map((one) => ({ record: one, kind: 'unreadable' as const, reason: 'no session' })),
      )
      const watched = watch(log)
      await log.append([
        ...numbered(KEYS, 0, 5, 'sessions'),
        record('bad', 'bad#0', 'sessions'),
        ...numbered(KEYS, 100, 5),
      ])
      await until(() => hasAll(sessions.values(), numbered(KEYS, 0, 5)))
      await until(() => hasAll(watched.values(), numbered(KEYS, 100, 5)))
      expect(sessions.batches.flat().every(({ lane }) => lane === 'sessions')).toBe(true)
      expect(watched.values().filter((value) => sessions.values().includes(value))).toEqual([])
      await until(async () => (await harness.readQuarantine()).length === 1)
      expect(await harness.readQuarantine()).toMatchObject([{ reason: 'no session' }])
    })

    test('while the broker is unavailable, appends and checks reject in time; when it is available, everything continues', async () => {
      const watched = watch(log)
      await log.append([record('a', 'a#0')])
      await until(() => watched.values().includes('a#0'))
      await harness.makeUnavailable()
      const since = Date.now()
      await expect(log.append([record('a', 'a#1')])).rejects.toBeInstanceOf(EventLogUnavailableError)
      await expect(log.check()).rejects.toBeInstanceOf(EventLogUnavailableError)
      expect(Date.now() - since).toBeLessThan(rejectionMs * 2)
      await harness.makeAvailable()
      await until(() =>
        log.append([record('a', 'a#2')]).then(
          () => true,
          () => false,
        ),
      )
      await until(() => watched.values().includes('a#2'))
      await until(() =>
        log.check().then(
          () => true,
          () => false,
        ),
      )
      expectOrder(watched.seen())
    })

    test('a batch in flight when the broker becomes unavailable is committed or handed out again, but never lost', async () => {
      const gate = Promise.withResolvers<void>()
      const started = Promise.withResolvers<void>()
      const watched = watch(log, { batchesInFlight: 1 }, async () => {
        started.resolve()
        await Promise.race([gate.promise, ended.promise])
        return []
      })
      const records = numbered(KEYS, 0, 5)
      await log.append(records)
      await started.promise
      await harness.makeUnavailable()
      gate.resolve()
      await until(() => watched.errors.length > 0)
      await harness.makeAvailable()
      await until(() => hasAll(watched.values(), records))
      expectOrder(watched.seen())
    })

    async function quiet(): Promise<void> {
      await new Promise((resolve) => setTimeout(resolve, quietMs))
    }
  })
}
