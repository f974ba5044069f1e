import { setImmediate } from 'node:timers/promises'
import {
  type BindingId,
  decodeLatencies,
  encodeLatencies,
  type LatencyHistogram,
  latencyBucket,
  mergeLatencies,
  SLA_SPANS,
  type SlaSpan,
  spanStart,
  withinPromise,
} from '@curfew/domain'
import { type BindingFacts, readBindingFacts } from '../delivery/binding-facts.ts'
import type { JournalDelivery, JournalEntry } from '../history/journal.ts'
import type { Queryable } from '../postgres/database.ts'
import { type Columns, rowParameters } from '../postgres/parameters.ts'
import { decideSettled, notePlanned, type PartyEntry } from './parties.ts'

// The SLA's rollups, as the journal feeds them.

/** What is added to one rollup. */
interface Addition {
  planned: number
  kept: number
  broken: number
  readonly latencies: Map<number, number>
}

/** By binding, and the beginning of the slot. */
type Additions = Map<BindingId, Map<number, Addition>>

/**
 * Files what was planned, and what was settled for the first time, under the slot, hour and day in which its event was
 * accepted. Nothing is promised of the bulk lane, which gives way to the other.
 *
 * A relying party with one channel counts by delivery, and the journal says it all: no delivery is looked up. A relying party with
 * several channels counts once for each logout: `parties.ts` looks its deliveries up.
 */
export async function projectSla(transaction: Queryable, entries: readonly JournalEntry[]): Promise<void> {
  const promised = await readBindingFacts(transaction, bindingsOf(entries))
  const additions: Additions = new Map()
  for (const entry of entries) {
    if (entry.kind === 'planned') addPlanned(additions, entry.owed, promised)
    else addSettled(additions, entry, promised)
  }
  await addParties(transaction, additions, entries, promised)
  const rows = rowsOf(additions)
  for (let from = 0; from < rows.length; from += ROWS_AT_ONCE) {
    if (from > 0) await setImmediate()
    await write(transaction, rows.slice(from, from + ROWS_AT_ONCE))
  }
}

/** What is promised for which binding. One that is no more is not in it. */
type Promised = ReadonlyMap<BindingId, BindingFacts>

function bindingsOf(entries: readonly JournalEntry[]): ReadonlySet<BindingId> {
  const bindings = new Set<BindingId>()
  for (const entry of entries) {
    for (const { bindingId } of entry.kind === 'planned' ? entry.owed : entry.settled) bindings.add(bindingId)
  }
  return bindings
}

function addPlanned(additions: Additions, owed: readonly JournalDelivery[], promised: Promised): void {
  for (const { bindingId, acceptedMs } of owed) {
    if (acceptedMs !== null && promised.get(bindingId)?.countsAt === null)
      additionTo(additions, bindingId, acceptedMs).planned += 1
  }
}

function addSettled(
  additions: Additions,
  { at, settled }: Extract<JournalEntry, { kind: 'settled' }>,
  promised: Promised,
): void {
  const atMs = at.getTime()
  for (const delivery of settled) {
    const { bindingId, acceptedMs, state, generation } = delivery
    const promise = promised.get(bindingId)
    // What was replayed has been counted when it was given up on.
    if (acceptedMs === null || generation > 0 || promise?.countsAt !== null) continue
    const addition = additionTo(additions, bindingId, acceptedMs)
    const elapsedMs = atMs - acceptedMs
    if (withinPromise(delivery, elapsedMs, promise)) addition.kept += 1
    else addition.broken += 1
    if (state === 'acknowledged') count(addition.latencies, latencyBucket(elapsedMs))
  }
}

/** Adds the logouts at relying parties that have several channels. */
async function addParties(
  transaction: Queryable,
  additions: Additions,
  entries: readonly JournalEntry[],
  promised: Promised,
): Promise<void> {
  const withinMs = new Map<BindingId, number>()
  const ofParties = (deliveries: readonly JournalDelivery[]): readonly PartyEntry[] =>
    deliveries.flatMap(({ id, bindingId, acceptedMs }) => {
      const promise = promised.get(bindingId)
      if (promise?.countsAt == null || acceptedMs === null) return []
      withinMs.set(promise.countsAt, promise.withinMs)
      return [{ id, countsAt: promise.countsAt, acceptedMs }]
    })
  if ([...promised.values()].every(({ countsAt }) => countsAt === null)) return
  const planned = ofParties(entries.flatMap((entry) => (entry.kind === 'planned' ? entry.owed : [])))
  const settled = ofParties(entries.flatMap((entry) => (entry.kind === 'settled' ? entry.settled : [])))
  if (planned.length > 0) {
    for (const { bindingId, acceptedMs } of await notePlanned(transaction, planned))
      additionTo(additions, bindingId, acceptedMs).planned += 1
  }
  if (settled.length === 0) return
  const decided = await decideSettled(transaction, settled, (bindingId) => withinMs.get(bindingId) ?? 0)
  for (const { bindingId, acceptedMs, kept, elapsedMs } of decided) {
    const addition = additionTo(additions, bindingId, acceptedMs)
    if (kept) addition.kept += 1
    else addition.broken += 1
    if (elapsedMs !== null) count(addition.latencies, latencyBucket(elapsedMs))
  }
}

/** What is added for a binding in the slot of an instant. */
function additionTo(additions: Additions, bindingId: BindingId, ms: number): Addition {
  const slotMs = spanStart('slot', ms)
  const known = additions.get(bindingId)
  if (known !== undefined) return additionIn(known, slotMs)
  const slots = new Map<number, Addition>()
  additions.set(bindingId, slots)
  return additionIn(slots, slotMs)
}

function additionIn(spans: Map<number, Addition>, startMs: number): Addition {
  const known = spans.get(startMs)
  if (known !== undefined) return known
  const addition: Addition = { planned: 0, kept: 0, broken: 0, latencies: new Map() }
  spans.set(startMs, addition)
  return addition
}

function count(latencies: Map<number, number>, bucket: number, by = 1): void {
  latencies.set(bucket, (latencies.get(bucket) ?? 0) + by)
}

/** One rollup that is added to. */
interface Row extends Addition {
  readonly span: SlaSpan
  readonly bindingId: BindingId
  readonly startMs: number
}

/** The rollups of every span. Percentiles are of hours and days only. */
function rowsOf(additions: Additions): readonly Row[] {
  const rows: Row[] = []
  for (const [bindingId, slots] of additions) {
    for (const span of Object.keys(SLA_SPANS) as SlaSpan[]) {
      const sums = new Map<number, Addition>()
      for (const [slotMs, { planned, kept, broken, latencies }] of slots) {
        const sum = additionIn(sums, spanStart(span, slotMs))
        sum.planned += planned
        sum.kept += kept
        sum.broken += broken
        if (span !== 'slot') for (const [bucket, by] of latencies) count(sum.latencies, bucket, by)
      }
      for (const [startMs, sum] of sums) rows.push({ span, bindingId, startMs, ...sum })
    }
  }
  return rows
}

/** Rollups in one statement. An event for ten thousand relying parties adds to thirty thousand. */
const ROWS_AT_ONCE = 3_000

const KEY: Columns<Row> = {
  span: ['word', ({ span }) => span],
  binding_id: ['bigint', ({ bindingId }) => bindingId],
  starts_at: ['timestamptz', ({ startMs }) => new Date(startMs)],
}
const KEYS = rowParameters(KEY)
const ADDITIONS = rowParameters<Row & { readonly encoded: string | null }>({
  ...KEY,
  planned: ['bigint', ({ planned }) => planned],
  kept: ['bigint', ({ kept }) => kept],
  broken: ['bigint', ({ broken }) => broken],
  latencies: ['word', ({ encoded }) => encoded],
})

const READ_LATENCIES = `
  select given.place, r.latencies
    from ${KEYS.placedAs('given')}
    join sla_rollups r using (span, binding_id, starts_at)
   where r.latencies <> ''`

const ADD = `
  insert into sla_rollups as r (span, binding_id, starts_at, planned, kept, broken, latencies)
  select span, binding_id, starts_at, planned, kept, broken, coalesce(decode(latencies, 'hex'), '')
    from ${ADDITIONS.as('given')}
  on conflict (span, binding_id, starts_at) do update
     set planned = r.planned + excluded.planned, kept = r.kept + excluded.kept, broken = r.broken + excluded.broken,
         latencies = case when excluded.latencies = '' then r.latencies else excluded.latencies end`

async function write(transaction: Queryable, rows: readonly Row[]): Promise<void> {
  const timed = rows.filter(({ latencies }) => latencies.size > 0)
  const known = timed.length === 0 ? [] : await readLatencies(transaction, timed)
  const latencies = new Map(
    timed.map((row, index) => [row, mergeLatencies([row.latencies, known[index] ?? new Map()])]),
  )
  await transaction.query({
    name: 'sla_add',
    text: ADD,
    values: ADDITIONS.values(rows.map((row) => ({ ...row, encoded: hex(latencies.get(row)) }))),
  })
}

/** What the rollups have already; of one that has nothing, nothing. */
async function readLatencies(
  transaction: Queryable,
  rows: readonly Row[],
): Promise<readonly (LatencyHistogram | undefined)[]> {
  const { rows: found } = await transaction.query<{ place: number; latencies: Uint8Array }>({
    name: 'sla_latencies',
    text: READ_LATENCIES,
    values: KEYS.values(rows),
  })
  const known: LatencyHistogram[] = []
  for (const { place, latencies } of found) known[place - 1] = decodeLatencies(latencies)
  return known
}

function hex(latencies: LatencyHistogram | undefined): string | null {
  return latencies === undefined ? null : Buffer.from(encodeLatencies(latencies)).toString('hex')
}
