import type { ReceiptClaims, ReceiptTarget } from './receipt.ts'

/** Members that are derived from the others and from the registration at the time. */
const DERIVED: ReadonlySet<string> = new Set(['kept', 'elapsed_ms', 'within_ms', 'counts', 'fallback_for'])

/**
 * Lists the contradictions between the ledger and a receipt, with both values of the member.
 *
 * @param today the claims of a receipt of the same event, made from the ledger today.
 * @param outdated whether a newer receipt replaces this one, because the event owed more deliveries or dead letters were
 * replayed.
 */
export function contradictions(
  receipt: ReceiptClaims,
  today: ReceiptClaims,
  outdated = false,
): readonly string[] {
  const targets = new Map(today.targets.map((target) => [nameOf(target), target]))
  const found = differences('event', receipt.event, today.event)
  for (const target of receipt.targets) {
    const name = nameOf(target)
    const now = targets.get(name)
    targets.delete(name)
    if (outdated && isReplayed(target, now)) continue
    found.push(
      ...(now === undefined ? [`${name} is missing or not settled`] : differences(name, target, now)),
    )
  }
  return outdated ? found : [...found, ...[...targets.keys()].map((name) => `${name} is not on the receipt`)]
}

/** Whether the delivery of a target was replayed. Only a dead letter can be. */
function isReplayed(then: ReceiptTarget, now: ReceiptTarget | undefined): boolean {
  const more = now === undefined || (now.replays ?? 0) > (then.replays ?? 0)
  return then.state === 'dead_lettered' && more
}

function nameOf({ client_id, channel, endpoint, sid, sid_hmac, sub, sub_hmac }: ReceiptTarget): string {
  const named = [sid ?? sid_hmac, sub ?? sub_hmac].filter((name) => name !== undefined)
  return `target ${client_id}/${channel}/${endpoint}${named.length === 0 ? '' : ` (${named.join(' of ')})`}`
}

function differences(name: string, then: object, now: object): string[] {
  const [before, after] = [new Map(Object.entries(then)), new Map(Object.entries(now))]
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((member) => {
    if (DERIVED.has(member)) return []
    const [was, is] = [JSON.stringify(before.get(member)), JSON.stringify(after.get(member))]
    return was === is ? [] : [`${name}: ${member} was ${was ?? 'not given'}, and is ${is ?? 'not given'}`]
  })
}
