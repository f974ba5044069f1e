import { setImmediate } from 'node:timers/promises'
import {
  type BindingId,
  type CountKind,
  type DeliveryId,
  decodeHistogram,
  encodeHistogram,
  type Histogram,
  latencyBucket,
  mergeHistograms,
  SLA_SPANS,
  type SlaSpan,
  spanStart,
  tickNumber,
  withinPromise,
} from '@curfew/domain'
import { type BindingFacts, readBindingFacts } from '../delivery/binding-facts.ts'
import type { JournalDelivery, JournalEntry } from '../history/journal.ts'
import type { Queryable } from '../postgres/database.ts'
import { type Columns, rowParameters } from '../postgres/parameters.ts'
import { decideSettled, notePlanned, type PartyEntry, plannedBefore } from './parties.ts'

// The projection of the journal into the SLA's rollups.

/** The counts to add to the rollups of one slot, and of the hour and day that contain it. */
interface Addition extends Record<CountKind, number> {
  readonly latencies: Map<number, number>
  readonly ticks: Map<number, number>
}

/** Additions by binding, and by the start of the slot in milliseconds since 1970. */
type Additions = Map<BindingId, Map<number, Addition>>

/**
 * Counts planned deliveries, and deliveries settled for the first time, in the slot, hour and day in which their event was
 * accepted. The bulk lane has no SLA, because it yields to the interactive lane.
 *
 * A relying party with one channel counts by delivery: the journal has all that is needed. A relying party with several channels
 * counts once for each logout: `parties.ts` looks up its deliveries. The registry's revision at which a logout was planned
 * decides how it counts, so a channel that is registered or removed meanwhile changes nothing.
 */
export async function projectSla(transaction: Queryable, entries: readonly JournalEntry[]): Promise<void> {
  const rules = await readRules(transaction, entries)
  const additions: Additions = new Map()
  for (const entry of entries) {
    if (entry.kind === 'planned') addPlanned(additions, entry.owed, rules)
    else addSettled(additions, entry, rules)
  }
  await addParties(transaction, additions, entries, rules)
  const rows = rowsOf(additions)
  for (let from = 0; from < rows.length; from += ROWS_AT_ONCE) {
    if (from > 0) await setImmediate()
    await write(transaction, rows.slice(from, from + ROWS_AT_ONCE))
  }
}

/** The rules by which deliveries count. */
interface Rules {
  /** Lacks bindings that have been deleted: their deliveries do not count. */
  readonly promised: ReadonlyMap<BindingId, BindingFacts>
  /** Deliveries of logouts that were planned before the second channel of their relying party. */
  readonly early: ReadonlySet<DeliveryId>
}

async function readRules(transaction: Queryable, entries: readonly JournalEntry[]): Promise<Rules> {
  const promised = await readBindingFacts(transaction, bindingsOf(entries))
  if ([...promised.values()].every(({ several }) => several === null)) return { promised, early: new Set() }
  const deliveries = entries.flatMap((entry): readonly JournalDelivery[] =>
    entry.kind === 'planned' ? entry.owed : entry.settled,
  )
  const early = await plannedBefore(
    transaction,
    deliveries.flatMap(({ id, bindingId, acceptedMs }) => {
      const several = promised.get(bindingId)?.several
      return several == null || acceptedMs === null ? [] : [{ id, since: several.since }]
    }),
  )
  return { promised, early }
}

/**
 * Finds the promise for a delivery that counts by itself; null for any other. An early logout counts by the deliveries of the
 * channel that the relying party had then. A fallback that was registered later would count it again.
 */
function promiseOf({ id, bindingId }: JournalDelivery, { promised, early }: Rules): BindingFacts | null {
  const binding = promised.get(bindingId)
  if (binding === undefined) return null
  const { several, channel } = binding
  return several === null || (early.has(id) && channel === several.channel) ? binding : null
}

function bindingsOf(entries: readonly JournalEntry[]): ReadonlySet<BindingId> {
  const bindings = new Set<BindingId>()
  for (const entry of entries) {
    for (const { bindingId } of entry.kind === 'planned' ? entry.owed : entry.settled) bindings.add(bindingId)
  }
  return bindings
}

function addPlanned(additions: Additions, owed: readonly JournalDelivery[], rules: Rules): void {
  for (const delivery of owed) {
    const { bindingId, acceptedMs } = delivery
    if (acceptedMs !== null && promiseOf(delivery, rules) !== null)
      add(additions, { bindingId, acceptedMs }, 'planned')
  }
}

function addSettled(
  additions: Additions,
  { at, settled }: Extract<JournalEntry, { kind: 'settled' }>,
  rules: Rules,
): void {
  const atMs = at.getTime()
  for (const delivery of settled) {
    const { bindingId, acceptedMs, state, generation } = delivery
    const promise = promiseOf(delivery, rules)
    // A replayed delivery was counted when it became a dead letter.
    if (acceptedMs === null || generation > 0 || promise === null) continue
    const elapsedMs = atMs - acceptedMs
    const kind = withinPromise(delivery, elapsedMs, promise) ? 'kept' : 'broken'
    add(additions, { bindingId, acceptedMs }, kind, state === 'acknowledged' ? elapsedMs : null)
  }
}

/** Adds the logouts that count as a whole. */
async function addParties(
  transaction: Queryable,
  additions: Additions,
  entries: readonly JournalEntry[],
  { promised, early }: Rules,
): Promise<void> {
  const withinMs = new Map<BindingId, number>()
  const ofParties = (deliveries: readonly JournalDelivery[]): readonly PartyEntry[] =>
    deliveries.flatMap(({ id, bindingId, acceptedMs }) => {
      const promise = promised.get(bindingId)
      if (promise?.several == null || acceptedMs === null || early.has(id)) return []
      const { countsAt } = promise.several
      withinMs.set(countsAt, promise.withinMs)
      return [{ id, countsAt, acceptedMs }]
    })
  const planned = ofParties(entries.flatMap((entry) => (entry.kind === 'planned' ? entry.owed : [])))
  const settled = ofParties(entries.flatMap((entry) => (entry.kind === 'settled' ? entry.settled : [])))
  if (planned.length > 0) {
    for (const logout of await notePlanned(transaction, planned)) add(additions, logout, 'planned')
  }
  if (settled.length === 0) return
  const decided = await decideSettled(transaction, settled, (bindingId) => withinMs.get(bindingId) ?? 0)
  for (const logout of decided) add(additions, logout, logout.kept ? 'kept' : 'broken', logout.elapsedMs)
}

/** Counts one delivery. @param elapsedMs the time from its acceptance to its acknowledgement; null without one. */
function add(
  additions: Additions,
  { bindingId, acceptedMs }: { readonly bindingId: BindingId; readonly acceptedMs: number },
  kind: CountKind,
  elapsedMs: number | null = null,
): void {
  const addition = additionTo(additions, bindingId, acceptedMs)
  addition[kind] += 1
  count(addition.ticks, tickNumber(kind, acceptedMs))
  if (elapsedMs !== null) count(addition.latencies, latencyBucket(elapsedMs))
}

/** Returns the addition for a binding in the slot of a time. */
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
  const addition: Addition = { planned: 0, kept: 0, broken: 0, latencies: new Map(), ticks: new Map() }
  spans.set(startMs, addition)
  return addition
}

function count(histogram: Map<number, number>, number: number, by = 1): void {
  histogram.set(number, (histogram.get(number) ?? 0) + by)
}

/** The key of a rollup. */
interface Key {
  readonly span: SlaSpan
  readonly bindingId: BindingId
  readonly startMs: number
}

/** A rollup, with the counts to add to it. */
interface Row extends Key, Readonly<Record<CountKind, number>> {
  /** Counts by tick for a slot, and latencies for an hour or day. */
  readonly histogram: Histogram
}

/** Sums up the additions for the rollups of every span. */
function rowsOf(additions: Additions): readonly Row[] {
  const rows: Row[] = []
  for (const [bindingId, slots] of additions) {
    for (const span of Object.keys(SLA_SPANS) as SlaSpan[]) {
      const sums = new Map<number, Addition>()
      for (const [slotMs, { planned, kept, broken, latencies }] of span === 'slot' ? [] : slots) {
        const sum = additionIn(sums, spanStart(span, slotMs))
        sum.planned += planned
        sum.kept += kept
        sum.broken += broken
        for (const [bucket, by] of latencies) count(sum.latencies, bucket, by)
      }
      for (const [startMs, { latencies, ticks, ...sum }] of span === 'slot' ? slots : sums)
        rows.push({ span, bindingId, startMs, ...sum, histogram: span === 'slot' ? ticks : latencies })
    }
  }
  return rows
}

/** Most rollups in one statement. An event for ten thousand relying parties changes thirty thousand rollups. */
const ROWS_AT_ONCE = 3_000

/**
 * The ticks of a slot are shortened if they are longer, in bytes. Shortened ticks have 180 pairs of up to five bytes, and
 * PostgreSQL would move a row of 2,000 bytes out of line.
 */
const TICKS_BYTES_MAX = 1_000

const KEY: Columns<Key> = {
  span: ['word', ({ span }) => span],
  binding_id: ['bigint', ({ bindingId }) => bindingId],
  starts_at: ['timestamptz', ({ startMs }) => new Date(startMs)],
}
const KEYS = rowParameters(KEY)
const SHORTENED = rowParameters<Key & { readonly encoded: string | null }>({
  ...KEY,
  histogram: ['word', ({ encoded }) => encoded],
})
const ADDITIONS = rowParameters<Row & { readonly encoded: string | null }>({
  ...KEY,
  planned: ['bigint', ({ planned }) => planned],
  kept: ['bigint', ({ kept }) => kept],
  broken: ['bigint', ({ broken }) => broken],
  histogram: ['word', ({ encoded }) => encoded],
})

const READ_HISTOGRAMS = `
  select given.place, r.histogram
    from ${KEYS.placedAs('given')}
    join sla_rollups r using (span, binding_id, starts_at)
   where r.histogram <> ''`

// The ticks of a slot are appended, which adds them up: to read them first would cost more than the rest of a round.
const ADD = `
  with added as (
    insert into sla_rollups as r (span, binding_id, starts_at, planned, kept, broken, histogram)
    select span, binding_id, starts_at, planned, kept, broken, coalesce(decode(histogram, 'hex'), '')
      from ${ADDITIONS.as('given')}
    on conflict (span, binding_id, starts_at) do update
       set planned = r.planned + excluded.planned, kept = r.kept + excluded.kept, broken = r.broken + excluded.broken,
           histogram = case when excluded.histogram = '' then r.histogram
                            when r.span = 'slot' then r.histogram || excluded.histogram
                            else excluded.histogram end
    returning span, binding_id, starts_at, histogram
  )
  select span, binding_id as "bindingId", (extract(epoch from starts_at) * 1000)::bigint as "startMs", histogram
    from added
   where span = 'slot' and octet_length(histogram) > ${TICKS_BYTES_MAX}`

const SHORTEN = `
  update sla_rollups r set histogram = decode(given.histogram, 'hex')
    from ${SHORTENED.as('given')}
   where r.span = given.span and r.binding_id = given.binding_id and r.starts_at = given.starts_at`

async function write(transaction: Queryable, rows: readonly Row[]): Promise<void> {
  const timed = rows.filter(({ span, histogram }) => span !== 'slot' && histogram.size > 0)
  const known = timed.length === 0 ? [] : await readHistograms(transaction, timed)
  const merged = new Map(
    timed.map((row, index) => [row, mergeHistograms([row.histogram, known[index] ?? new Map()])]),
  )
  const { rows: long } = await transaction.query<Key & { readonly histogram: Uint8Array }>({
    name: 'sla_add',
    text: ADD,
    values: ADDITIONS.values(rows.map((row) => ({ ...row, encoded: hex(merged.get(row) ?? row.histogram) }))),
  })
  if (long.length === 0) return
  await transaction.query({
    name: 'sla_shorten',
    text: SHORTEN,
    values: SHORTENED.values(
      long.map(({ histogram, ...key }) => ({ ...key, encoded: hex(decodeHistogram(histogram)) })),
    ),
  })
}

/** Reads the histograms that the rollups already have, in the order of `rows`. */
async function readHistograms(
  transaction: Queryable,
  rows: readonly Row[],
): Promise<readonly (Histogram | undefined)[]> {
  const { rows: found } = await transaction.query<{ place: number; histogram: Uint8Array }>({
    name: 'sla_histograms',
    text: READ_HISTOGRAMS,
    values: KEYS.values(rows),
  })
  const known: Histogram[] = []
  for (const { place, histogram } of found) known[place - 1] = decodeHistogram(histogram)
  return known
}

function hex(histogram: Histogram): string | null {
  return histogram.size === 0 ? null : Buffer.from(encodeHistogram(histogram)).toString('hex')
}
