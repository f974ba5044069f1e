import { ProblemError, unitsOfElements } from '@curfew/runtime'
import type { PostRequest } from './elements.ts'
import { type LaneLimits, laneFull } from './lane-limits.ts'

/** The longest time that an array of interactive logouts delays the next logouts of its credential, in seconds. */
const OWED_S = 5

/**
 * Charges the logouts of a body to the budgets of its credential. Both lanes have their own budget, and no other work uses them.
 * So sessions, registrations and mass logouts never delay the logout of one person. Interactive logouts of an admitted request
 * are all accepted. They are charged afterwards, and delay later requests by seconds at most.
 *
 * @returns the refusal of the bulk logouts of the body, or null.
 */
export function payForLogouts(
  { body, spending }: PostRequest,
  lanes: Pick<LaneLimits, 'isFull'>,
): ProblemError | null {
  const elements: readonly unknown[] = Array.isArray(body) ? body : [body]
  const bulk = elements.filter((element) => Object(element).lane === 'bulk').length
  const interactive = elements.length - bulk
  // The request paid one interactive unit on entry, before its body was read. A body without interactive logouts gets it back.
  spending?.charge('logouts', interactive > 0 ? unitsOfElements(interactive) - 1 : -1, OWED_S)
  if (bulk === 0) return null
  if (lanes.isFull('bulk')) return laneFull('bulk', 'bulk logouts')
  try {
    spending?.pay('bulk logouts', unitsOfElements(bulk))
  } catch (error) {
    if (error instanceof ProblemError) return error
    throw error
  }
  return null
}
