import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { median } from '../figures.ts'
import { ISS, type Latency } from '../load.ts'
import { PORT } from '../pipeline.ts'
import { openRelyingParties, type RelyingParties } from '../relying-parties.ts'
import type { Row } from '../scenarios.ts'
import { openStage, type Stage } from '../stage.ts'
import type { Settings } from '../turns.ts'

const DELIVERIES = 1_000_000
/** Outside the ephemeral range, and different from the port of the available relying parties. */
const UNAVAILABLE_PORT = PORT + 2
const CONCURRENCY = 16
/** Short, so that the few deliveries that were attempted do not delay the end. */
const RETRIES_MS = Array.from({ length: 32 }, () => 5_000)
const POST_EVENTS = 1_000
const POSTS_AT_ONCE = 4
/** The load on the other relying party, as a part of the highest rate. */
const OTHER_SHARE = 0.1
/** Longer than any breaker stays open. */
const STUCK_AFTER_MS = 600_000
const PROGRESS_MS = 5_000

const COUNT_LOG = 'select count(*) as count from log_records'
const COUNT_WAITING = `select count(*) as count from deliveries where state in ('pending', 'in_flight')`

/** Lets a million deliveries wait for an unavailable relying party, which then recovers. */
export async function backlog(settings: Settings): Promise<readonly Row[]> {
  const { scale, rounds, seconds, progress } = settings
  const size = Math.max(1_000, Math.round(DELIVERIES * scale))
  await using stage = await openStage(settings)
  const { load, bare } = stage
  await using closing = new AsyncDisposableStack()
  const unavailable = await openRelyingParties(UNAVAILABLE_PORT)
  closing.defer(() => unavailable.stop())
  await unavailable.refuse()
  const other = await stage.register('other', 1)
  const recovering = await stage.register('recovering', 1, {
    at: unavailable,
    curfew: { concurrency: CONCURRENCY, retry_schedule_ms: RETRIES_MS },
  })
  const toOther = { event: { clients: [...other] }, owedTo: 1 }
  progress('looking for the highest rate to one RP')
  const eventsPerSecond = (await stage.highestRate(toOther)) * OTHER_SHARE
  const latencies = async () => {
    const found: Latency[] = []
    while (found.length < rounds) found.push(await load.latency(toOther, { eventsPerSecond, seconds }))
    return found.map(({ p99 }) => p99)
  }
  const aloneP99 = await latencies()
  const memoryBefore = stage.takePeakMemoryMib()

  await pileUp(stage, { clients: recovering, size, progress })
  const memoryArriving = stage.takePeakMemoryMib()
  const waiting = await count(stage, COUNT_WAITING)
  progress(`${waiting} wait; measuring the other RP`)
  const meanwhileP99 = await latencies()
  const memoryWaiting = stage.takePeakMemoryMib()
  const bareBefore = (await bare.turn(CONCURRENCY)).rate
  const drained = await drain(stage, unavailable, { size: waiting, progress })
  const memoryDrained = stage.takePeakMemoryMib()
  const bareRate = median([bareBefore, (await bare.turn(CONCURRENCY)).rate])

  const memory = (when: string, mib: number | null): Row[] =>
    mib === null || memoryBefore === null
      ? []
      : [
          {
            measured: `${waiting} for one RP: peak memory while they ${when}, MiB`,
            values: [mib],
            beside: { what: 'before them, at full speed', values: [memoryBefore] },
            target: 'below 300 MiB',
          },
        ]
  return [
    ...memory('arrive', memoryArriving),
    ...memory('wait', memoryWaiting),
    ...memory('are delivered', memoryDrained),
    {
      measured: '  another RP at the same time: 202 to first byte, p99 ms',
      values: meanwhileP99,
      beside: { what: 'before them', values: aloneP99 },
    },
    {
      measured: '  after recovery: s until all acknowledged',
      values: [drained.seconds],
      beside: { what: `bare loop posts ${waiting}`, values: [waiting / bareRate] },
    },
    {
      measured: `  delivered, deliveries/s, ${CONCURRENCY} at once`,
      values: [drained.rate],
      beside: { what: `bare loop, ${CONCURRENCY} at once`, values: [bareRate] },
    },
  ]
}

async function count({ db }: Stage, statement: string): Promise<number> {
  const { rows } = await db.query<{ count: number }>(statement)
  return rows[0]?.count ?? 0
}

/** Posts `size` events for `clients`, and waits until all are planned. */
async function pileUp(
  stage: Stage,
  { clients, size, progress }: { clients: readonly string[]; size: number; progress: (text: string) => void },
): Promise<void> {
  const startedMs = performance.now()
  let left = size
  let accepted = 0
  let reportedMs = startedMs
  const report = (text: string) => {
    if (performance.now() - reportedMs < PROGRESS_MS) return
    reportedMs = performance.now()
    progress(text)
  }
  const postOn = async () => {
    while (left > 0) {
      const events = Math.min(POST_EVENTS, left)
      left -= events
      const answers = await stage.subject.client.postLogoutEvents(
        Array.from({ length: events }, () => ({ iss: ISS, sub: randomUUID(), clients: [...clients] })),
      )
      accepted += answers.filter(({ status }) => status === 'accepted').length
      report(`${accepted} of ${size} accepted`)
    }
  }
  await Promise.all(Array.from({ length: POSTS_AT_ONCE }, postOn))
  for (let unplanned = accepted; unplanned > 0; ) {
    await sleep(500)
    unplanned = await count(stage, COUNT_LOG)
    report(`${accepted} accepted, ${unplanned} of them not planned yet`)
  }
  const rate = accepted / ((performance.now() - startedMs) / 1_000)
  progress(`${accepted} accepted and planned, ${rate.toFixed(0)}/s`)
}

/**
 * Lets the relying party recover, and waits until the ledger has acknowledged all deliveries.
 *
 * @returns the seconds from the recovery to the last acknowledgement, infinite if they stopped arriving. The rate is that of the
 * first 95 % of the answers: the last deliveries wait for their retry.
 */
async function drain(
  { subject }: Stage,
  unavailable: RelyingParties,
  { size, progress }: { size: number; progress: (text: string) => void },
): Promise<{ readonly seconds: number; readonly rate: number }> {
  const before = await subject.acknowledged()
  await unavailable.listen()
  const recoveredMs = performance.now()
  let first: { atMs: number; delivered: number } | null = null
  let rate = Number.NaN
  let [delivered, progressMs, reportedMs] = [0, recoveredMs, recoveredMs]
  for (;;) {
    await sleep(50)
    const [now, nowMs] = [await unavailable.count(), performance.now()]
    if (now > delivered) [delivered, progressMs] = [now, nowMs]
    if (first === null && delivered > 0) first = { atMs: nowMs, delivered }
    if (first !== null && Number.isNaN(rate) && delivered >= size * 0.95) {
      rate = ((delivered - first.delivered) / (nowMs - first.atMs)) * 1_000
    }
    if (nowMs - reportedMs > PROGRESS_MS) {
      reportedMs = nowMs
      progress(`${delivered} of ${size} delivered`)
    }
    if (delivered >= size && (await subject.acknowledged()) - before >= size) {
      return { seconds: (performance.now() - recoveredMs) / 1_000, rate }
    }
    if (nowMs - progressMs > STUCK_AFTER_MS) return { seconds: Number.POSITIVE_INFINITY, rate }
  }
}
