import { type LogoutEvent, type Quarantined, widened } from '@curfew/domain'
import type { Registry } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { RelayedTokens } from '@curfew/wiring'
import type { Incoming } from './read-batch.ts'
import type { RegistryCache } from './registry-cache.ts'

export interface RelayedDeps {
  readonly relayedTokens: Pick<RelayedTokens, 'verify'>
  readonly registry: Pick<RegistryCache, 'current' | 'refresh'>
  readonly log: Log
}

/**
 * Verifies the tokens that the relay could not verify when it accepted them. An event is planned only if its token is good.
 *
 * @param slow called before a verification, which may wait for the issuer's keys.
 */
export async function verifyRelayed(
  { relayedTokens, registry, log }: RelayedDeps,
  events: readonly Incoming[],
  slow: () => void,
): Promise<{ readonly verified: readonly Incoming[]; readonly quarantined: readonly Quarantined[] }> {
  if (events.every(({ event }) => event.relayed?.verified !== false))
    return { verified: events, quarantined: [] }
  slow()
  // The issuer may have been registered after our copy was read.
  await registry.refresh()
  const checked = await Promise.all(
    events.map(async (incoming) => {
      const fault = await faultOf(relayedTokens, incoming.event, registry.current())
      return fault === null ? incoming : { record: incoming.record, ...fault }
    }),
  )
  const quarantined = checked.filter((one) => 'kind' in one)
  for (const { record, kind, reason } of quarantined)
    log.error({ event: 'event.quarantined', position: record.position, kind, reason })
  return { verified: checked.filter((one) => 'event' in one), quarantined }
}

async function faultOf(
  relayedTokens: Pick<RelayedTokens, 'verify'>,
  { iss, relayed, acceptedAt }: LogoutEvent,
  { issuers }: Registry,
): Promise<Pick<Quarantined, 'kind' | 'reason'> | null> {
  if (relayed === undefined || relayed.verified) return null
  const issuer = issuers.get(iss)
  if (issuer === undefined) {
    const reason = `the issuer ${iss} is not registered, so the logout token could not be verified`
    return { kind: 'unverified', reason }
  }
  const { clientId, token } = relayed
  const { relay, networks } = issuer
  const result = await relayedTokens.verify({ iss, clientId, relay, networks }, token, acceptedAt)
  if (result.ok) return null
  return result.kind === 'unavailable'
    ? { kind: 'unverified', reason: `the logout token could not be verified: ${result.description}` }
    : { kind: 'forged', reason: `the logout token for ${clientId} is not valid: ${result.description}` }
}

/**
 * Whether one of two events may make a delivery of the other needless: they came by different ways and name the same session at a
 * common client. The ledger compares an event only with events of earlier statements.
 */
export function mayBeOneLogout(one: LogoutEvent, other: LogoutEvent, { issuers }: Registry): boolean {
  if (one.sid === null || one.iss !== other.iss || one.sid !== other.sid) return false
  if (one.relayed?.clientId === other.relayed?.clientId) return false
  const clientsOf = (event: LogoutEvent) => widened(event, issuers.get(event.iss)?.relay).clients
  const [ours, theirs] = [clientsOf(one), clientsOf(other)]
  return ours === null || theirs === null || ours.some((client) => theirs.includes(client))
}
