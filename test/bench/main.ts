import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { SigningAlgorithm } from '@curfew/domain'
import { openKafka } from '../../deploy/kafka/broker.ts'
import { type Asker, cpuOf, openAsker, openSubject, peakMemoryOf, type Subject } from './processes.ts'

// npm run bench: Curfew end to end (accepted, planned, delivered, acknowledged in the ledger) against the bare loop that
// signs and posts, in turns on the same machine to the same receiver. Absolute figures mean nothing on a shared machine; the
// ratio of a pair of turns does.

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    /** Length of one turn. */
    seconds: { type: 'string', default: '6' },
    rounds: { type: 'string', default: '3' },
    rps: { type: 'string', default: '10' },
    algorithm: { type: 'string', default: 'ES256' },
    'no-kafka': { type: 'boolean', default: false },
  },
})
const SECONDS = Number(flags.seconds)
const ROUNDS = Number(flags.rounds)
const RPS = Number(flags.rps)
const ALGORITHM = flags.algorithm as SigningAlgorithm
const ISS = 'https://idp.example'
const PORT = 18_480
/** Deliveries that are kept under way: enough that nothing runs dry, few enough that nothing piles up. */
const UNDER_WAY = 3_000
const POST_EVENTS = 100
const CONCURRENCIES = [16, 64, 160]

interface Turn {
  readonly rate: number
  /** Processor time per 1,000 deliveries, in milliseconds. */
  readonly nodeCpuMs: number | null
  readonly postgresCpuMs: number | null
}

interface Report {
  readonly arrangement: string
  readonly bare: readonly Turn[]
  readonly curfew: readonly Turn[]
  readonly ratios: readonly number[]
  readonly latencyMs: { readonly p50: number; readonly p99: number; readonly atRate: number }
  readonly peakMemoryMib: number | null
}

const progress = (text: string) => process.stderr.write(`${text}\n`)
const median = (numbers: readonly number[]) => quantile(numbers, 0.5)

function quantile(numbers: readonly number[], q: number): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN
}

async function bareTurn(bare: Asker, uri: string, concurrency: number, seconds: number): Promise<Turn> {
  const { rate, cpuMs } = await bare.ask<{ rate: number; cpuMs: number }>({
    uri,
    algorithm: ALGORITHM,
    concurrency,
    seconds,
  })
  return { rate, nodeCpuMs: cpuMs * 1_000, postgresCpuMs: null }
}

/** Keeps `UNDER_WAY` deliveries under way until `ended` aborts; resolves when all are acknowledged. */
async function keepFull(subject: Subject, receiver: Asker, ended: AbortSignal): Promise<void> {
  const start = (await receiver.ask<{ count: number }>('count')).count
  let owed = 0
  while (!ended.aborted) {
    const { count } = await receiver.ask<{ count: number }>('count')
    if (owed - (count - start) > UNDER_WAY) {
      await sleep(5)
      continue
    }
    await subject.client.postLogoutEvents(
      Array.from({ length: POST_EVENTS }, () => ({ iss: ISS, sub: randomUUID(), reason: 'user' as const })),
    )
    owed += POST_EVENTS * RPS
  }
  for (;;) {
    const { count } = await receiver.ask<{ count: number }>('count')
    if (count - start >= owed) return
    await sleep(20)
  }
}

async function curfewTurn(subject: Subject, receiver: Asker): Promise<Turn> {
  const ended = new AbortController()
  const filling = keepFull(subject, receiver, ended.signal)
  await sleep(1_000)
  const pid = subject.process.pid ?? 0
  const [cpuBefore, before, startedMs] = [cpuOf(pid), await subject.acknowledged(), performance.now()]
  await sleep(SECONDS * 1_000)
  const [cpuAfter, after, endedMs] = [cpuOf(pid), await subject.acknowledged(), performance.now()]
  ended.abort()
  await filling
  const done = after - before
  const perThousand = (group: 'node' | 'postgres') =>
    cpuBefore === null || cpuAfter === null ? null : ((cpuAfter[group] - cpuBefore[group]) / done) * 1_000
  return {
    rate: done / ((endedMs - startedMs) / 1_000),
    nodeCpuMs: perThousand('node'),
    postgresCpuMs: perThousand('postgres'),
  }
}

/** From the 202, as the IdP sees it, to the first byte at each RP; single posts, evenly spread over time. */
async function latency(subject: Subject, receiver: Asker, rate: number): Promise<Report['latencyMs']> {
  await receiver.ask('stamp')
  await receiver.ask('stamps')
  const everyMs = 1_000 / (rate / RPS)
  const acceptedNs = new Map<string, bigint>()
  const posts: Promise<void>[] = []
  const startedMs = performance.now()
  for (let n = 0; performance.now() - startedMs < SECONDS * 1_000; n++) {
    const waitMs = startedMs + n * everyMs - performance.now()
    if (waitMs > 0) await sleep(waitMs)
    const post = async () => {
      const { id } = await subject.client.postLogoutEvent({ iss: ISS, sub: randomUUID() })
      acceptedNs.set(id, process.hrtime.bigint())
    }
    posts.push(post())
  }
  await Promise.all(posts)
  const waits: number[] = []
  while (waits.length < acceptedNs.size * RPS) {
    const { stamps } = await receiver.ask<{ stamps: { txn: string; atNs: string }[] }>('stamps')
    for (const { txn, atNs } of stamps) {
      const accepted = acceptedNs.get(txn)
      // An RP may be told before the IdP has read its 202.
      if (accepted !== undefined) waits.push(Math.max(0, Number(BigInt(atNs) - accepted) / 1e6))
    }
    await sleep(50)
  }
  return { p50: quantile(waits, 0.5), p99: quantile(waits, 0.99), atRate: rate }
}

async function measure(arrangement: string, env: Readonly<Record<string, string>>): Promise<Report> {
  const receiver = await openAsker<{ port: number }>('./receiver.ts')
  const uri = `http://127.0.0.1:${receiver.hello.port}/backchannel-logout`
  const bare = await openAsker('./bare.ts')
  progress(`${arrangement}: looking for the bare loop's best concurrency`)
  const tried: { concurrency: number; rate: number }[] = []
  for (const concurrency of CONCURRENCIES) {
    await bareTurn(bare, uri, concurrency, 1)
    tried.push({ concurrency, rate: (await bareTurn(bare, uri, concurrency, 2)).rate })
  }
  const best = tried.reduce((a, b) => (b.rate > a.rate ? b : a)).concurrency
  progress(`${arrangement}: starting Curfew`)
  const subject = await openSubject(PORT, env)
  try {
    await subject.client.putIssuer('main', { iss: ISS })
    for (let n = 0; n < RPS; n++) {
      await subject.client.putRelyingParty('main', `rp-${n}`, {
        backchannel_logout_uri: uri,
        id_token_signed_response_alg: ALGORITHM,
      })
    }
    await curfewTurn(subject, receiver)
    const turns: { bare: Turn; curfew: Turn }[] = []
    for (let round = 1; round <= ROUNDS; round++) {
      const turn = {
        bare: await bareTurn(bare, uri, best, SECONDS),
        curfew: await curfewTurn(subject, receiver),
      }
      turns.push(turn)
      progress(
        `${arrangement}: round ${round} of ${ROUNDS}: bare ${turn.bare.rate.toFixed(0)}/s, Curfew ${turn.curfew.rate.toFixed(0)}/s`,
      )
    }
    const highest = median(turns.map(({ curfew }) => curfew.rate))
    progress(`${arrangement}: latency at half that rate`)
    const latencyMs = await latency(subject, receiver, highest / 2)
    return {
      arrangement,
      bare: turns.map((turn) => turn.bare),
      curfew: turns.map((turn) => turn.curfew),
      ratios: turns.map((turn) => turn.curfew.rate / turn.bare.rate),
      latencyMs,
      peakMemoryMib: peakMemoryOf(subject.process.pid ?? 0),
    }
  } finally {
    await subject.stop()
    bare.stop()
    receiver.stop()
  }
}

function table(reports: readonly Report[]): string {
  const range = (numbers: readonly number[], digits: number) =>
    `${median(numbers).toFixed(digits)} (${Math.min(...numbers).toFixed(digits)} to ${Math.max(...numbers).toFixed(digits)})`
  const cpu = (turns: readonly Turn[], group: 'nodeCpuMs' | 'postgresCpuMs') => {
    const known = turns.map((turn) => turn[group]).filter((value) => value !== null)
    return known.length === 0 ? '-' : median(known).toFixed(0)
  }
  const rows = [
    ['', ...reports.map(({ arrangement }) => arrangement)],
    [
      'bare sign and post, deliveries/s',
      ...reports.map(({ bare }) =>
        range(
          bare.map(({ rate }) => rate),
          0,
        ),
      ),
    ],
    [
      'Curfew end to end, deliveries/s',
      ...reports.map(({ curfew }) =>
        range(
          curfew.map(({ rate }) => rate),
          0,
        ),
      ),
    ],
    ['ratio', ...reports.map(({ ratios }) => range(ratios, 2))],
    ['202 to first byte at the RP, p50 ms', ...reports.map(({ latencyMs }) => latencyMs.p50.toFixed(1))],
    ['202 to first byte at the RP, p99 ms', ...reports.map(({ latencyMs }) => latencyMs.p99.toFixed(1))],
    ['  at deliveries/s', ...reports.map(({ latencyMs }) => latencyMs.atRate.toFixed(0))],
    ['CPU ms per 1,000: bare', ...reports.map(({ bare }) => cpu(bare, 'nodeCpuMs'))],
    ['CPU ms per 1,000: Curfew', ...reports.map(({ curfew }) => cpu(curfew, 'nodeCpuMs'))],
    ['CPU ms per 1,000: its PostgreSQL', ...reports.map(({ curfew }) => cpu(curfew, 'postgresCpuMs'))],
    ['peak memory of Curfew, MiB', ...reports.map(({ peakMemoryMib }) => peakMemoryMib?.toFixed(0) ?? '-')],
  ]
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('   ')
        .trimEnd(),
    )
    .join('\n')
}

const reports = [await measure('PostgreSQL event log', {})]
if (!flags['no-kafka']) {
  const kafka = await openKafka({ log: progress })
  if (kafka.how === 'none') {
    progress(`Not measured over Kafka, for no broker can be had:\n${kafka.lookedFor.join('\n')}`)
  } else {
    try {
      const env = {
        KAFKA_BROKERS: kafka.brokers.join(','),
        KAFKA_REPLICATION_FACTOR: '1',
        KAFKA_TOPIC_PREFIX: `bench.${Date.now()}.`,
      }
      reports.push(await measure('Kafka event log', env))
    } finally {
      await kafka.stop()
    }
  }
}
process.stdout.write(
  flags.json
    ? `${JSON.stringify({ algorithm: ALGORITHM, relyingParties: RPS, seconds: SECONDS, reports }, null, 2)}\n`
    : `\n${ALGORITHM}, ${RPS} relying parties, turns of ${SECONDS} s; median (least to most)\n\n${table(reports)}\n`,
)
