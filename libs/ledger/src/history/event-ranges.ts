import { deliveryIdRange } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'

/**
 * Ids of events, and the range of the ids of their deliveries: three arrays, for `unnest($1::uuid[], $2::uuid[], $3::uuid[])`.
 */
export function eventRanges(ids: readonly string[]): readonly [ids: string, low: string, high: string] {
  const ranges = ids.map(deliveryIdRange)
  return [plainArray(ids), plainArray(ranges.map(([low]) => low)), plainArray(ranges.map(([, high]) => high))]
}
