import { randomBytes } from 'node:crypto'
import {
  type BindingId,
  type DeliveryId,
  type EventId,
  encodeHistogram,
  latencyBucket,
  mergeHistograms,
  SLA_SPANS,
  tickNumber,
  uuidV7,
} from '@curfew/domain'
import { type JournalEntry, projectSla, withTransaction } from '@curfew/ledger'
import { median, quantile } from '../figures.ts'
import { ISS } from '../load.ts'
import type { Row } from '../scenarios.ts'
import { openStage, type Stage } from '../stage.ts'
import type { Settings } from '../turns.ts'

const PARTIES = 200
const DAYS = 30
/** Deliveries per hour of a relying party. With 200 relying parties they make ten million in total. */
const PER_HOUR = Math.round(10_000_000 / PARTIES / DAYS / 24)
const PER_SLOT = Math.round(PER_HOUR / 12)
const SLOT_DAYS = 2
const BROKEN = 0.001
/** The number of different latency samples. Enough that the rollups differ. */
const SAMPLES = 64
const REQUESTS = 100

/** The entries of a round of the journal at full speed. */
const ENTRIES = 20
const PER_ENTRY = 500

/** Measures GET /v1/sla over ten million deliveries, and the time to project deliveries into the SLA rollups. */
export async function sla(settings: Settings): Promise<readonly Row[]> {
  const { rounds, scale, progress } = settings
  const parties = Math.max(2, Math.round(PARTIES * scale))
  await using stage = await openStage(settings)
  progress(`registering ${parties} relying parties`)
  await stage.register('rps', parties)
  progress('filling the rollups')
  await fill(stage)
  const projecting: number[] = []
  for (let round = 0; round < rounds; round++) projecting.push(...(await project(stage, progress)))

  const { client } = stage.subject
  const { planned } = await client.getSla({ issuer: 'main' })
  const deliveries = `${(planned / 1e6).toFixed(1)} million deliveries`
  const rows: Row[] = [
    {
      measured: `projecting ${ENTRIES * PER_ENTRY} planned and settled deliveries, ms`,
      values: projecting,
      beside: null,
      target: '< 200',
    },
  ]
  const requests = [
    ['all of it', () => client.getSla({ issuer: 'main' })],
    ['by relying party', () => client.getSla({ issuer: 'main', group_by: 'relying_party' })],
    ['a day by hour', () => client.getSla({ issuer: 'main', group_by: 'hour' })],
    ['one relying party', () => client.getSla({ issuer: 'main', client_id: 'rps-0' })],
  ] as const
  for (const [what, request] of requests) {
    const [medians, p99s, bare]: [number[], number[], number[]] = [[], [], []]
    for (let round = 0; round < rounds; round++) {
      bare.push(median(await timesOf(() => client.getIssuer('main'))))
      const times = await timesOf(request)
      medians.push(median(times))
      p99s.push(quantile(times, 0.99))
      progress(`${what}: median ${medians.at(-1)?.toFixed(1)} ms`)
    }
    const beside = { what: 'reading one row (GET an issuer)', values: bare }
    rows.push({
      measured: `GET /v1/sla of ${deliveries}, ${what}: median, ms`,
      values: medians,
      beside,
      target: '< 50 ms',
    })
    rows.push({ measured: `GET /v1/sla, ${what}: p99, ms`, values: p99s, beside: null })
  }
  return rows
}

async function timesOf(request: () => Promise<unknown>): Promise<readonly number[]> {
  const times: number[] = []
  while (times.length < REQUESTS) {
    const startedMs = performance.now()
    await request()
    times.push(performance.now() - startedMs)
  }
  return times
}

const FILL = `
  insert into sla_rollups (span, binding_id, starts_at, planned, kept, broken, histogram)
  select $1, b.id, at, $2::bigint, $2::bigint - broken, broken,
         decode(($6::text[])[1 + (random() * ($7::integer - 1))::integer], 'hex')
    from bindings b
    cross join generate_series(date_bin($8::interval, $3::timestamptz, timestamptz 'epoch'), $4::timestamptz, $8::interval) as at
    cross join lateral (select least($2::bigint, (random() * 2 * $2 * $5::float8)::bigint) as broken) of_it
  on conflict do nothing`

/** Inserts rollups as the bookkeeper would: the same relying parties, hour after hour. */
async function fill({ db }: Stage): Promise<void> {
  const now = new Date()
  const daysAgo = (days: number) => new Date(now.getTime() - days * 86_400_000)
  for (const [span, length, count, from] of [
    ['slot', '5 minutes', PER_SLOT, daysAgo(SLOT_DAYS)],
    ['hour', '1 hour', PER_HOUR, daysAgo(DAYS)],
    ['day', '1 day', PER_HOUR * 24, daysAgo(DAYS)],
  ] as const) {
    const samples = Array.from({ length: SAMPLES }, () =>
      span === 'slot' ? ticksOf(count) : sampleOf(count),
    )
    await db.query(FILL, [span, count, from, now, BROKEN, samples, SAMPLES, length])
  }
  await db.query('analyze')
}

/** Deliveries of a slot, planned and kept at random times. */
function ticksOf(count: number): string {
  const ticks = Array.from({ length: count }, () => {
    const acceptedMs = Math.random() * SLA_SPANS.slot
    return new Map((['planned', 'kept'] as const).map((kind) => [tickNumber(kind, acceptedMs), 1]))
  })
  return Buffer.from(encodeHistogram(mergeHistograms(ticks))).toString('hex')
}

/** Random latencies: most of some ten milliseconds, a few much longer. */
function sampleOf(count: number): string {
  const latencies = Array.from({ length: count }, () => {
    const ms = Math.random() < 0.01 ? 5_000 * Math.random() : 10 + 40 * Math.random() ** 3
    return new Map([[latencyBucket(ms), 1]])
  })
  return Buffer.from(encodeHistogram(mergeHistograms(latencies))).toString('hex')
}

const ADD_EVENTS = `
  insert into events (id, given_id, digest, iss, sub, scope, include_initiator, occurred_stated, requested_at, lane, occurred_at, accepted_at, planned_at, plan_basis)
  select id, id, '\\x00', $2, id::text, 'subject', false, true, $3, 'interactive', $3, $3, $3, 'registered' from unnest($1::uuid[]) as id`

const ADD_DELIVERIES = `
  insert into deliveries (id, event_id, binding_id, state, lane, planned_at, attempts, settled_at, level)
  select gen_random_uuid(), event_id, b.id, 'acknowledged', 'interactive', $2, 1, $3, 'done'
    from unnest($1::uuid[]) as event_id cross join (select id from bindings order by id limit $4) b
  returning id, binding_id as "bindingId"`

/** Projects one round of the journal at full speed, planned and then settled. @returns the duration in milliseconds. */
async function project({ db }: Stage, progress: (text: string) => void): Promise<readonly number[]> {
  const deliveries = ENTRIES * PER_ENTRY
  const { rows: bindings } = await db.query<{ count: number }>('select count(*) as count from bindings')
  const parties = Math.min(bindings[0]?.count ?? 1, deliveries)
  const accepted = new Date(Date.now() - 1_000)
  const eventIds = Array.from(
    { length: Math.ceil(deliveries / parties) },
    () => uuidV7(accepted, randomBytes(10)) as EventId,
  )
  await db.query(ADD_EVENTS, [eventIds, ISS, accepted])
  const at = new Date()
  const { rows } = await db.query<{ id: DeliveryId; bindingId: BindingId }>(ADD_DELIVERIES, [
    eventIds,
    accepted,
    at,
    parties,
  ])
  const owed = rows.slice(0, deliveries).map((row) => ({ ...row, acceptedMs: accepted.getTime() }))
  const parts = Array.from({ length: ENTRIES }, (_, part) =>
    owed.slice(part * PER_ENTRY, (part + 1) * PER_ENTRY),
  )
  const planned = parts.map((part): JournalEntry => ({ kind: 'planned', at, eventIds: [], owed: part }))
  const settled = parts.map(
    (part): JournalEntry => ({
      kind: 'settled',
      at,
      settled: part.map((delivery) => ({ ...delivery, state: 'acknowledged', level: 'done', generation: 0 })),
    }),
  )
  const startedMs = performance.now()
  for (const entries of [planned, settled])
    await withTransaction(db, (transaction) => projectSla(transaction, entries))
  const tookMs = performance.now() - startedMs
  progress(`projected ${owed.length} deliveries in ${tookMs.toFixed(0)} ms`)
  return [tookMs]
}
