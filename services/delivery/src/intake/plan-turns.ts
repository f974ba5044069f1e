import { createFairTurns, type Issuer } from '@curfew/domain'

/** Lets large plans of one lane be written one at a time, the issuers in turn. */
export interface PlanTurns {
  /** Runs `work` when it is this issuer's turn. */
  run<Result>(issuer: Issuer, work: () => Promise<Result>): Promise<Result>
}

export function createPlanTurns(): PlanTurns {
  const turns = createFairTurns<Issuer, () => void>()
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
