import type { DeadLetterFilterInput } from '@curfew/contract'
import { type AccessFilter, conditionsOf } from '@curfew/domain'
import type { DeadLetterFilter } from '@curfew/ledger'
import { readTime } from '../http/query.ts'

/**
 * The dead letters that a request selects, as far as its credential may see them.
 *
 * @param what the part of the request that has the filter: its query, or the member `filter` of its body.
 * @throws a 400 problem.
 */
export function readFilter(
  given: DeadLetterFilterInput,
  access: AccessFilter,
  what: 'query' | 'body',
): DeadLetterFilter {
  const pointer = what === 'query' ? '' : '/filter'
  return {
    ...conditionsOf(access, { issuer: given.issuer ?? null, clientId: given.client_id ?? null }),
    channel: given.channel ?? null,
    reason: given.reason ?? null,
    from: readTime(given.from, `${pointer}/from`, what),
    to: readTime(given.to, `${pointer}/to`, what),
    ids: given.ids ?? null,
  }
}
