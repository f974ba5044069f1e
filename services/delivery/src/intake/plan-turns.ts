import { createRoundRobin, type Issuer } from '@curfew/domain'

/** Writes the large plans of one lane one at a time. Issuers take turns. */
export interface PlanTurns {
  /** Runs `work` when it is this issuer's turn. */
  run<Result>(issuer: Issuer, work: () => Promise<Result>): Promise<Result>
}

export function createPlanTurns(): PlanTurns {
  const turns = createRoundRobin<Issuer, () => void>()
  let busy = false

  return {
    async run(issuer, work) {
      if (busy) {
        const { promise, resolve } = Promise.withResolvers<void>()
        turns.add(issuer, resolve)
        await promise
      }
      busy = true
      try {
        return await work()
      } finally {
        const next = turns.next(() => true)
        if (next === null) busy = false
        else next()
      }
    },
  }
}
