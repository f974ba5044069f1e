import { ApiError, type Client } from '@curfew/client'
import type { Delivery } from '@curfew/contract'
import type { AuditedLog, LaneProgress, LogPlace } from '../support/kafka-admin.ts'
import type { Tally } from './load.ts'

// Finds out where an accepted logout is stuck: its place in the event log and the ledger, and the states of its deliveries.

export interface Places {
  readonly client: Client
  /** Calls an ingest. Default: `client`. */
  readonly events?: Client
  readonly tallies: readonly Tally[]
  /** Omitted if the event log is not Kafka. */
  readonly log?: AuditedLog
}

export interface Whereabouts {
  /** The same text for all logouts that are stuck at the same place. */
  readonly where: string
  /** The offset in its partition; null if the log is not read, or lacks the event. */
  readonly offset: bigint | null
}

const ASKED_AT_ONCE = 16

/**
 * Locates accepted logouts.
 *
 * @param deliveryOf returns the ledger's delivery of an event to a client.
 */
export async function locate(
  ids: readonly string[],
  { client, events = client, tallies, log }: Places,
  deliveryOf: (id: string, clientId: string) => Delivery | undefined,
): Promise<ReadonlyMap<string, Whereabouts>> {
  const found = new Map<string, Whereabouts>()
  if (ids.length === 0) return found
  const progress = log === undefined ? [] : await log.progress()
  const left = [...ids]
  while (left.length > 0) {
    const some = left.splice(0, ASKED_AT_ONCE)
    const known = await Promise.all(some.map((id) => lookUp(events, id)))
    for (const [index, id] of some.entries()) {
      const place = log?.places.get(id) ?? null
      const deliveries = tallies.map(({ clientId, times }) => {
        const state = deliveryOf(id, clientId)?.state ?? 'no delivery'
        return `${clientId}: ${state}, received ${times.get(id) ?? 0} times`
      })
      const parts = [
        ...(log === undefined ? [] : [placeText(place, progress)]),
        known[index] ?? '',
        ...deliveries,
      ]
      found.set(id, { where: parts.join('; '), offset: place?.offset ?? null })
    }
  }
  return found
}

async function lookUp(events: Client, id: string): Promise<string> {
  try {
    await events.getLogoutEvent(id)
    return 'in the ledger'
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    return error.status === 404 ? 'not in the ledger' : `ingest answers ${error.status}`
  }
}

function placeText(place: LogPlace | null, progress: readonly LaneProgress[]): string {
  if (place === null) return 'not in the event log'
  const { topic, partition, offset } = place
  const commit = progress.find((lane) => lane.topic === topic)?.commits.get(partition)
  const handled = commit !== undefined && commit > offset
  return `${topic}/${partition}, ${handled ? 'committed past' : `not committed past (${commit ?? 'no commit'})`}`
}

/**
 * One line for each place, with the number of logouts there and their range of offsets.
 *
 * @param arrivedMs the time that each logout took to arrive; without an entry, it never did. Omitted while that is unknown.
 */
export function summarise(
  found: ReadonlyMap<string, Whereabouts>,
  arrivedMs?: ReadonlyMap<string, number>,
): readonly string[] {
  const all = [...found].map(([id, { where, offset }]) => ({ where, offset, ms: arrivedMs?.get(id) ?? null }))
  const groups = Map.groupBy(all, ({ where, ms }) => `${where} ${ms === null}`)
  return [...groups.values()].map((group) => {
    const offsets = group.flatMap(({ offset }) => offset ?? []).sort((a, b) => Number(a - b))
    const range = offsets.length === 0 ? '' : `; offsets ${offsets[0]} to ${offsets.at(-1)}`
    const times = group.flatMap(({ ms }) => ms ?? [])
    const arrived = arrivedMs === undefined ? '' : `: ${arrivalText(times)}`
    return `${group.length} × ${group[0]?.where ?? ''}${range}${arrived}`
  })
}

function arrivalText(times: readonly number[]): string {
  const seconds = (ms: number) => (ms / 1_000).toFixed(1)
  return times.length === 0
    ? 'never arrived'
    : `arrived after ${seconds(Math.min(...times))} to ${seconds(Math.max(...times))} s`
}
