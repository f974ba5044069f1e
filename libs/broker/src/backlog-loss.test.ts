import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Batch, createBacklog } from './backlog.ts'
import { type Entry, lostSince, type Mark, type Place } from './mark.ts'

// Goal: a worker handles all records of the log, and all records that it read before the log lost them. The order of reads,
// handlers, joins and losses does not matter. Method: a log in memory, and random steps.

const HOUR_MS = 3_600_000

function createLog() {
  let records: { readonly id: string; readonly epoch: number; readonly atMs: number }[] = []
  let epoch = 0
  let nowMs = 10 * HOUR_MS
  let number = 0
  return {
    commit: null as Place | null,
    /** Two hours later than the previous records, so that `lostSince` can tell them apart. */
    append(count: number) {
      nowMs += 2 * HOUR_MS
      for (let index = 0; index < count; index++) records.push({ id: `r${number++}`, epoch, atMs: nowMs })
    },
    lose(count: number) {
      nowMs += 2 * HOUR_MS
      records = records.slice(0, Math.max(0, records.length - count))
      epoch++
    },
    ids: () => records.map(({ id }) => id),
    /** Null: `from` is out of range. */
    read(from: number, count: number): Entry[] | null {
      if (from > records.length) return null
      return records.slice(from, from + count).map(({ id, epoch: by, atMs }, index) => ({
        ...{ offset: BigInt(from + index), epoch: by, timestamp: String(atMs), readMs: nowMs },
        record: {
          ...{ lane: 'interactive', key: 'k', value: Buffer.from(id), headers: {} },
          position: `0@${from + index}`,
        },
      }))
    },
    firstSince(mark: Mark | null): bigint {
      const first = mark === null ? -1 : records.findIndex(({ atMs }) => atMs >= lostSince(mark))
      return BigInt(Math.max(first, 0))
    },
  }
}

/** One worker without kafkajs. Each method does what the consumer does at the event of that name. */
function createWorker(log: ReturnType<typeof createLog>) {
  const backlog = createBacklog()
  const handled: string[] = []
  const read: string[] = []
  let inFlight: Batch | null = null
  let hasMark = false

  function rewind(): void {
    const place = backlog.next(0)
    if (place === null) return
    const first = log.firstSince(place.mark)
    backlog.rewind(0, first <= place.next ? first : 0n)
    hasMark = false
  }
  const worker = {
    handled,
    read,
    /** After a rewind, a worker has no mark until its next read. Without one it cannot detect a second loss. */
    hasMark: () => hasMark,
    assign: (partitions: readonly number[]) => backlog.assign(partitions),
    leave: () => backlog.leave(),
    place: () => backlog.place(0, log.commit),
    fetch(count: number) {
      if (backlog.next(0) === null) return
      const from = backlog.readFrom(0)
      const entries = log.read(Number(from), count)
      if (entries === null) return rewind()
      const last = entries.at(-1)
      if (last === undefined) return backlog.awaits(0, from) ? rewind() : undefined
      const added = backlog.add({ partition: 0, from, next: last.offset + 1n, entries })
      if (added === 'other') rewind()
      if (added !== 'taken') return
      hasMark = true
      read.push(...entries.map(({ record }) => Buffer.from(record.value).toString()))
    },
    take(count: number) {
      inFlight ??= backlog.take(count)
    },
    finish(isWell: boolean) {
      if (inFlight === null) return
      const records = backlog.records(inFlight)
      if (isWell && records.length > 0) {
        handled.push(...records.map(({ value }) => Buffer.from(value).toString()))
        backlog.handled(inFlight)
      }
      backlog.release(inFlight)
      inFlight = null
    },
    /** Runs a handler that starts before `meanwhile` and ends after it. */
    slowly(meanwhile: () => void) {
      if (inFlight === null) return meanwhile()
      const records = backlog.records(inFlight)
      meanwhile()
      if (records.length > 0) {
        handled.push(...records.map(({ value }) => Buffer.from(value).toString()))
        backlog.handled(inFlight)
      }
      backlog.release(inFlight)
      inFlight = null
    },
    commit() {
      for (const { next, mark } of backlog.dueCommits()) log.commit = { next, mark }
      backlog.committed(backlog.dueCommits())
    },
    settle() {
      for (let round = 0; round < 200; round++) {
        worker.finish(true)
        worker.fetch(100)
        worker.take(100)
      }
      worker.finish(true)
      worker.commit()
    },
  }
  return worker
}

type Worker = ReturnType<typeof createWorker>
type Step = (log: ReturnType<typeof createLog>, worker: Worker) => void

const count = fc.integer({ min: 1, max: 6 })
const rejoin = (worker: Worker) => {
  worker.leave()
  worker.assign([0])
}
const steps = [
  count.map(
    (many): Step =>
      (log) =>
        log.append(many),
  ),
  count.map(
    (many): Step =>
      (_, worker) =>
        worker.fetch(many),
  ),
  count.map(
    (many): Step =>
      (_, worker) =>
        worker.take(many),
  ),
  fc.constantFrom<Step>(
    (_, worker) => worker.finish(true),
    (_, worker) => worker.finish(false),
    (_, worker) => worker.commit(),
    (_, worker) => worker.place(),
    (_, worker) => worker.assign([0]),
    (_, worker) => worker.leave(),
    (_, worker) => worker.slowly(() => rejoin(worker)),
  ),
]
const loss = count.map(
  (many): Step =>
    (log, worker) => {
      if (worker.hasMark()) log.lose(many)
    },
)

function run(done: readonly Step[]) {
  const log = createLog()
  const worker = createWorker(log)
  worker.assign([0])
  worker.place()
  for (const step of done) step(log, worker)
  rejoin(worker)
  worker.place()
  worker.settle()
  return { log, worker }
}

test('a single worker handles every record that it read or that the log has, whatever the log loses', () => {
  const some = fc.array(fc.oneof(...steps, ...steps, ...steps, loss), { minLength: 20, maxLength: 60 })
  fc.assert(
    fc.property(some, (done) => {
      const { log, worker } = run(done)
      expect(worker.handled).toEqual(expect.arrayContaining([...log.ids(), ...worker.read]))
    }),
    { numRuns: 2_000 },
  )
})

test('a single worker handles each record once and in order if the log loses nothing', () => {
  const some = fc.array(fc.oneof(...steps), { minLength: 20, maxLength: 60 })
  fc.assert(
    fc.property(some, (done) => {
      const { log, worker } = run(done)
      expect(worker.handled).toEqual(log.ids())
    }),
    { numRuns: 2_000 },
  )
})
