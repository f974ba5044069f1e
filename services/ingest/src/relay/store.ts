import { ProblemError } from '@curfew/runtime'
import type { Append } from '../append.ts'
import type { Store } from './take.ts'

/** Creates a store that appends each record to the event log. */
export function createStore(append: Append): Store {
  return async (record) => {
    try {
      await append([record], 'logout token')
      return 'appended'
    } catch (error) {
      if (error instanceof ProblemError && error.problem.status === 503) return 'unavailable'
      throw error
    }
  }
}
