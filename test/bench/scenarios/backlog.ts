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
/** Outside of what the system gives away, and beside the port of those that stay up. */
const DOWN_PORT = PORT + 2
const CONCURRENCY = 16
/** Often, so that the few that were attempted meanwhile do not make the end wait. */
const RETRIES_MS = Array.from({ length: 32 }, () => 5_000)
const POST_EVENTS = 1_000
const POSTS_AT_ONCE = 4
/** Of the highest rate: what the other relying party is told meanwhile. */
const OTHER_SHARE = 0.1
/** Longer than any breaker stays open. */
const STUCK_AFTER_MS = 600_000
const SAY_EVERY_MS = 5_000

const COUNT_LOG = 'select count(*) as count from log_records'
const COUNT_WAITING = `select count(*) as count from deliveries where state in ('pending', 'in_flight')`

/** A relying party is down while a million deliveries come to wait for it; then it comes back. */
export async function backlog(settings: Settings): Promise<readonly Row[]> {
  const { scale, rounds, seconds, progress } = settings
  const size = Math.max(1_000, Math.round(DELIVERIES * scale))
  await using stage = await openStage(settings)
  const { load, bare } = stage
  await using closing = new AsyncDisposableStack()
  const down = await openRelyingParties(DOWN_PORT)
  closing.defer(() => down.stop())
  await down.refuse()
  const other = await stage.register('other', 1)
  const gone = await stage.register('gone', 1, {
    at: down,
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

  await pileUp(stage, { clients: gone, size, progress })
  const memoryComing = stage.takePeakMemoryMib()
  const waiting = await count(stage, COUNT_WAITING)
  progress(`${waiting} wait; looking at the other RP meanwhile`)
  const meanwhileP99 = await latencies()
  const memoryWaiting = stage.takePeakMemoryMib()
  const bareBefore = (await bare.turn(CONCURRENCY)).rate
  const drained = await drain(stage, down, { size: waiting, progress })
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
    ...memory('come', memoryComing),
    ...memory('wait', memoryWaiting),
    ...memory('are told', memoryDrained),
    {
      measured: '  another RP meanwhile: 202 to first byte, p99 ms',
      values: meanwhileP99,
      beside: { what: 'before them', values: aloneP99 },
    },
    {
      measured: '  it is back: s until all acknowledged',
      values: [drained.seconds],
      beside: { what: `bare loop posts ${waiting}`, values: [waiting / bareRate] },
    },
    {
      measured: `  told at, deliveries/s, ${CONCURRENCY} at once`,
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
  let saidMs = startedMs
  const say = (text: string) => {
    if (performance.now() - saidMs < SAY_EVERY_MS) return
    saidMs = performance.now()
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
      say(`${accepted} of ${size} accepted`)
    }
  }
  await Promise.all(Array.from({ length: POSTS_AT_ONCE }, postOn))
  for (let unplanned = accepted; unplanned > 0; ) {
    await sleep(500)
    unplanned = await count(stage, COUNT_LOG)
    say(`${accepted} accepted, ${unplanned} of them not planned yet`)
  }
  const rate = accepted / ((performance.now() - startedMs) / 1_000)
  progress(`${accepted} accepted and planned, ${rate.toFixed(0)}/s`)
}

/**
 * Lets the relying party come back, and waits until the ledger has everything as acknowledged.
 *
 * @returns seconds from its return to the last acknowledgement, endless when they stopped coming; and the rate from the
 * first answer to the 95th of 100: what was attempted just before waits for its turn.
 */
async function drain(
  { subject }: Stage,
  down: RelyingParties,
  { size, progress }: { size: number; progress: (text: string) => void },
): Promise<{ readonly seconds: number; readonly rate: number }> {
  const before = await subject.acknowledged()
  await down.listen()
  const upMs = performance.now()
  let first: { atMs: number; told: number } | null = null
  let rate = Number.NaN
  let [told, movedMs, saidMs] = [0, upMs, upMs]
  for (;;) {
    await sleep(50)
    const [now, nowMs] = [await down.count(), performance.now()]
    if (now > told) [told, movedMs] = [now, nowMs]
    if (first === null && told > 0) first = { atMs: nowMs, told }
    if (first !== null && Number.isNaN(rate) && told >= size * 0.95) {
      rate = ((told - first.told) / (nowMs - first.atMs)) * 1_000
    }
    if (nowMs - saidMs > SAY_EVERY_MS) {
      saidMs = nowMs
      progress(`${told} of ${size} told`)
    }
    if (told >= size && (await subject.acknowledged()) - before >= size) {
      return { seconds: (performance.now() - upMs) / 1_000, rate }
    }
    if (nowMs - movedMs > STUCK_AFTER_MS) return { seconds: Number.POSITIVE_INFINITY, rate }
  }
}
