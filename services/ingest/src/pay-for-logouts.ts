import { ProblemError, unitsOfElements } from '@curfew/runtime'
import type { PostRequest } from './elements.ts'
import { type LaneLimits, laneFull } from './lane-limits.ts'

/** Most that an array of interactive logouts holds up the next ones of its credential, in seconds. */
const OWED_S = 5

/**
 * Charges for the logouts in a body. Each lane has a budget of its own, and no other kind of work is paid from either: neither
 * sessions, nor registrations, nor a mass logout ever costs a person's logout. A request of interactive logouts that was let in is
 * taken whole; its elements are charged afterwards, and hold up later ones for seconds at most.
 *
 * @returns why the bulk ones among them are refused, or null.
 */
export function payForLogouts(
  { body, spending }: PostRequest,
  lanes: Pick<LaneLimits, 'isFull'>,
): ProblemError | null {
  const elements: readonly unknown[] = Array.isArray(body) ? body : [body]
  const bulk = elements.filter((each) => Object(each).lane === 'bulk').length
  const interactive = elements.length - bulk
  // One was paid at the door, before it was known whose it is: a mass logout gets it back.
  spending?.charge('logouts', interactive > 0 ? unitsOfElements(interactive) - 1 : -1, OWED_S)
  if (bulk === 0) return null
  if (lanes.isFull('bulk')) return laneFull('bulk', 'logouts of the bulk lane')
  try {
    spending?.pay('bulk logouts', unitsOfElements(bulk))
  } catch (error) {
    if (error instanceof ProblemError) return error
    throw error
  }
  return null
}
