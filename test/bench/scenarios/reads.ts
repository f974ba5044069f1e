import { setTimeout as sleep } from 'node:timers/promises'
import type { Latency } from '../load.ts'
import type { Row } from '../scenarios.ts'
import { openStage, type Stage } from '../stage.ts'
import type { Settings } from '../turns.ts'

const DELIVERIES = 1_000_000
/** Each reader keeps twice as many reads under way as a credential may. */
const READERS = 4
const READS_OF_EACH = 4
/**
 * The load, as a part of the highest rate. The reads should delay the logouts by waiting for each other, not by a full machine.
 */
const LOAD = 0.25

/** The heaviest reads: filters without a match, the largest pages, and counted results. */
const HEAVIEST = [
  '/v1/deliveries?until=2020-01-01T00:00:00Z',
  '/v1/deliveries?issuer=main&until=2020-01-01T00:00:00Z&limit=500',
  '/v1/deliveries?issuer=main&state=lapsed',
  '/v1/deliveries?limit=500',
  '/v1/dead-letters?issuer=main&reason=gone&limit=500',
]

/**
 * Measures the effect of reads at their limit on logouts. Compares turns with and without readers that repeat the heaviest reads,
 * over as many connections as they may use.
 */
export async function reads(settings: Settings): Promise<readonly Row[]> {
  const { rounds, seconds, rps, scale, progress } = settings
  await using stage = await openStage(settings)
  const { load, subject } = stage
  await stage.register('rps', rps)
  progress('filling the ledger')
  await fill(stage, Math.round(DELIVERIES * scale))
  const keys = await Promise.all(
    Array.from({ length: READERS }, (_, n) =>
      subject.client.createApiKey({ name: `reader-${n}`, scopes: ['admin'] }).then(({ key }) => key),
    ),
  )
  progress('looking for the highest rate')
  const stream = { owedTo: rps }
  const eventsPerSecond = ((await stage.highestRate(stream)) * LOAD) / rps

  const turns: { alone: Latency; together: Latency; readsPerSecond: number }[] = []
  for (let round = 1; round <= rounds; round++) {
    const alone = await load.latency(stream, { eventsPerSecond, seconds })
    const ended = new AbortController()
    const reading = keys.flatMap((key) =>
      Array.from({ length: READS_OF_EACH }, () => readOn(stage, key, ended.signal)),
    )
    await sleep(500)
    const together = await load.latency(stream, { eventsPerSecond, seconds })
    ended.abort()
    const answered = (await Promise.all(reading)).reduce((sum, count) => sum + count, 0)
    turns.push({ alone, together, readsPerSecond: answered / (seconds + 0.5) })
    progress(
      `round ${round} of ${rounds}: p99 ${alone.p99.toFixed(1)} ms alone, ${together.p99.toFixed(1)} ms beside ${turns.at(-1)?.readsPerSecond.toFixed(0)} reads/s`,
    )
  }
  const row = (quantile: 'p50' | 'p99'): Row => ({
    measured: `logouts beside ${READERS * READS_OF_EACH} concurrent heavy reads: 202 to first byte, ${quantile} ms`,
    values: turns.map(({ together }) => together[quantile]),
    beside: { what: 'no reads', values: turns.map(({ alone }) => alone[quantile]) },
    ...(quantile === 'p99' && { target: 'ratio below 1.25' }),
  })
  return [
    row('p50'),
    row('p99'),
    {
      measured: 'heavy reads answered per second',
      values: turns.map(({ readsPerSecond }) => readsPerSecond),
      beside: null,
    },
  ]
}

/** Reads until `ended` aborts. @returns the number of successful reads. */
async function readOn({ subject }: Stage, key: string, ended: AbortSignal): Promise<number> {
  let answered = 0
  for (let n = 0; !ended.aborted; n++) {
    const response = await fetch(`${subject.url}${HEAVIEST[n % HEAVIEST.length]}`, {
      headers: { authorization: `Bearer ${key}` },
    })
    await response.arrayBuffer()
    if (response.ok) answered++
    else await sleep(50)
  }
  return answered
}

const ADD_EVENTS = `
  insert into events (id, given_id, digest, iss, sub, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
  select md5('old ' || n)::uuid, md5('old ' || n)::uuid, '\\x00', 'https://idp.example', 'old-' || n, 'subject', false, true, now(), 'interactive', now(), now(), now(), 'registered'
    from generate_series(1, $1::int) n`

const ADD_DELIVERIES = `
  insert into deliveries (id, event_id, binding_id, attempts, state, lane, planned_at, settled_at, level, dead_letter_reason)
  select (left(md5('old ' || n % $2)::uuid::text, 24) || right(md5('delivery ' || n), 12))::uuid, md5('old ' || 1 + n % $2)::uuid,
         1 + n % b.count, 1, case when n % 10 = 0 then 'dead_lettered' else 'acknowledged' end, 'interactive', now(), now(),
         case when n % 10 = 0 then null else 'done' end, case when n % 10 = 0 then 'refused' end
    from generate_series(0, $1::int - 1) n cross join (select count(*) from bindings) b`

/** Fills the ledger with settled deliveries, a tenth of them dead letters. */
async function fill({ db }: Stage, deliveries: number): Promise<void> {
  const events = Math.max(1, Math.round(deliveries / 10))
  await db.query(ADD_EVENTS, [events])
  await db.query(ADD_DELIVERIES, [deliveries, events])
  await db.query('vacuum analyze deliveries, events')
}
