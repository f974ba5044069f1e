import type { ReceiptClaims, ReceiptTarget } from './receipt.ts'

/** What follows from the rest, and from what was promised then. */
const DERIVED: ReadonlySet<string> = new Set(['kept', 'elapsed_ms', 'within_ms'])

/**
 * In what the ledger contradicts a receipt: each as a path and what stands in both.
 *
 * @param today what a receipt of the same event, to the same generation, would say now.
 */
export function contradictions(receipt: ReceiptClaims, today: ReceiptClaims): readonly string[] {
  const targets = new Map(today.targets.map((target) => [nameOf(target), target]))
  const found = differences('event', receipt.event, today.event)
  for (const target of receipt.targets) {
    const name = nameOf(target)
    const now = targets.get(name)
    targets.delete(name)
    found.push(
      ...(now === undefined ? [`${name} is settled no more, or gone`] : differences(name, target, now)),
    )
  }
  return [...found, ...[...targets.keys()].map((name) => `${name} is not on the receipt`)]
}

function nameOf({ client_id, endpoint, sid, sid_hmac }: ReceiptTarget): string {
  const session = sid ?? sid_hmac
  return `target ${client_id}/${endpoint}${session === undefined ? '' : ` (${session})`}`
}

function differences(name: string, then: object, now: object): string[] {
  const [before, after] = [new Map(Object.entries(then)), new Map(Object.entries(now))]
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((member) => {
    if (DERIVED.has(member)) return []
    const [was, is] = [JSON.stringify(before.get(member)), JSON.stringify(after.get(member))]
    return was === is ? [] : [`${name}: ${member} was ${was ?? 'not given'}, and is ${is ?? 'not given'}`]
  })
}
