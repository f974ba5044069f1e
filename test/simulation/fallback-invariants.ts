import type { MemoryDelivery } from '../support/memory-rows.ts'
import { describe, type Evidence, type Invariant, owedFor } from './evidence.ts'
import type { RelyingPartyPlan } from './scenario.ts'
import { EPOCH_MS } from './virtual-time.ts'

// Invariants of relying parties with several channels: a fallback is owed a logout exactly when the channel before it fails.
// Stated independently of the domain.

export const FALLBACK_INVARIANTS: Readonly<Record<string, Invariant>> = {
  'a dead letter is replaced by its fallback': deadLettersReplaced,
  'no fallback is owed while the channel before it works': fallbacksJustified,
}

const takesNoSids = ({ binding }: RelyingPartyPlan) => binding.names === 'subject'

function* deadLettersReplaced({ ledger, scenario, planByBinding }: Evidence): Iterable<string> {
  for (const row of ledger.deliveries.values()) {
    const plan = planByBinding.get(row.bindingId)
    const event = ledger.events.get(row.eventId)?.event
    if (row.state !== 'dead_lettered' || row.deadLetterReason === 'later_session') continue
    if (plan === undefined || plan.removedMs !== null || event === undefined) continue
    const { sid } = row.delivery
    for (const fallback of scenario.relyingParties) {
      const { clientId, kind } = plan.binding
      if (fallback.binding.clientId !== clientId || fallback.binding.fallbackFor !== kind) continue
      if (!owedFor({ event }, fallback.binding)) continue
      const nameless = fallback.binding.names === 'session' && sid === null
      const named = takesNoSids(fallback) && event.scope !== 'session' ? null : sid
      const owed = [...ledger.deliveries.values()].some(
        (other) =>
          other.eventId === row.eventId &&
          other.bindingId === fallback.binding.id &&
          other.delivery.sid === named,
      )
      if (!owed && !nameless)
        yield `${describe(row)}: binding ${fallback.binding.id} is its fallback, but is owed no delivery`
    }
  }
}

/** The most that the clock of a plan may be behind, in milliseconds. */
const BEHIND_MS = 20_000

/** Whether the RP at a binding ever gave a bad answer before a delivery was planned. */
function hadTrouble({ received }: Evidence, { binding }: RelyingPartyPlan, until: Date): boolean {
  const untilMs = until.getTime() - EPOCH_MS + BEHIND_MS
  return received.some(
    ({ bindingId, atMs, status }) =>
      bindingId === binding.id && atMs <= untilMs && status !== 200 && status !== 204,
  )
}

function* fallbacksJustified(evidence: Evidence): Iterable<string> {
  const { ledger, scenario, planByBinding } = evidence
  const died = ({ state, generation }: MemoryDelivery) => state === 'dead_lettered' || generation > 0
  for (const row of ledger.deliveries.values()) {
    const plan = planByBinding.get(row.bindingId)
    if (plan === undefined || plan.binding.fallbackFor === null) continue
    const { clientId, fallbackFor } = plan.binding
    const before = scenario.relyingParties.filter(
      ({ binding }) => binding.clientId === clientId && binding.kind === fallbackFor,
    )
    const event = ledger.events.get(row.eventId)?.event
    const justified = before.some((each) => {
      if (event !== undefined && !owedFor({ event }, each.binding)) return true
      if (each.removedMs !== null || each.binding.names === 'session') return true
      if (hadTrouble(evidence, each, row.plannedAt)) return true
      return [...ledger.deliveries.values()].some(
        (other) => other.eventId === row.eventId && other.bindingId === each.binding.id && died(other),
      )
    })
    if (!justified) yield `${describe(row)} is owed, but the channel before it had no trouble`
  }
}
