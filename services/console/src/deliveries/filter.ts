import type { DeadLetterFilterInput } from '@curfew/contract'
import { type AccessFilter, conditionsOf } from '@curfew/domain'
import type { DeadLetterFilter } from '@curfew/ledger'
import { readTime } from '../http/query.ts'

/**
 * The filter of a request for dead letters, restricted to those that its credential may see.
 *
 * @param part the part of the request that has the filter: its query, or the member `filter` of its body.
 * @throws a 400 problem.
 */
export function readFilter(
  given: DeadLetterFilterInput,
  access: AccessFilter,
  part: 'query' | 'body',
): DeadLetterFilter {
  const pointer = part === 'query' ? '' : '/filter'
  return {
    ...conditionsOf(access, { issuer: given.issuer ?? null, clientId: given.client_id ?? null }),
    channel: given.channel ?? null,
    reason: given.reason ?? null,
    from: readTime(given.from, `${pointer}/from`, part),
    to: readTime(given.to, `${pointer}/to`, part),
    ids: given.ids ?? null,
  }
}
