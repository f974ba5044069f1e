import { deliveryIdRange } from '@curfew/domain'
import { plainArray } from '../postgres/arrays.ts'

/**
 * Ids of events, and the range of the ids of their deliveries: three arrays, for `unnest($1::uuid[], $2::uuid[], $3::uuid[])`.
 */
export function eventRanges(ids: readonly string[]): readonly [ids: string, low: string, high: string] {
  const ranges = ids.map(deliveryIdRange)
  return [plainArray(ids), plainArray(ranges.map(([low]) => low)), plainArray(ranges.map(([, high]) => high))]
}

/** SQL: the lowest and highest id of the deliveries of an event, as `deliveryIdRange` in the domain. @param id SQL: the event's id. */
export function deliveriesOf(id: string): { readonly lowest: string; readonly highest: string } {
  const prefix = `overlay(left(${id}::text, 18) placing '8' from 15 for 1)`
  return {
    lowest: `(${prefix} || '-0000-000000000000')::uuid`,
    highest: `(${prefix} || '-ffff-ffffffffffff')::uuid`,
  }
}
