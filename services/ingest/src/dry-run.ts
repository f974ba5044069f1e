import type { IssuerLogoutPreview } from '@curfew/contract'
import type { LogoutEvent } from '@curfew/domain'
import type { IssuerLogoutPreview as Counted } from '@curfew/ledger'
import { createTurns, ProblemError } from '@curfew/runtime'

/** The greatest number of clients in the answer. */
const CLIENTS_MAX = 1_000

/** Limits on concurrent previews, because a preview reads all sessions of an issuer. A caller is an issuer here. */
const PREVIEWS = { perCaller: 1, waitingPerCaller: 2, atOnce: 2, waiting: 100, waitMs: 20_000 }

/** Limits a preview to few concurrent runs, with issuers in turn. The result throws a 429 problem if too many previews wait. */
export function limitPreviews(
  preview: (event: LogoutEvent) => Promise<Counted>,
): (event: LogoutEvent) => Promise<Counted> {
  const turns = createTurns({
    ...PREVIEWS,
    refusal: (full) =>
      new ProblemError({
        status: 429,
        title: 'Too many previews at once',
        detail: `${full === 'caller' ? 'Other previews of this issuer' : 'Previews of other issuers'} are running. Ask again shortly. Nothing was accepted.`,
        headers: { 'retry-after': '2' },
      }),
  })
  return (event) => turns.run(event.iss, () => preview(event))
}

/** Previews the sessions that an issuer logout would end. @throws {ProblemError} 400 for an event of another scope. */
export async function dryRun(
  event: LogoutEvent,
  preview: (event: LogoutEvent) => Promise<Counted>,
): Promise<IssuerLogoutPreview> {
  if (event.scope !== 'issuer') throw invalidDryRun('dry_run is only for scope issuer.')
  const { basis, subjects, sessions, byClient } = await preview(event)
  return {
    dry_run: true,
    iss: event.iss,
    plan_basis: basis,
    subjects,
    sessions,
    by_client: byClient.slice(0, CLIENTS_MAX).map((client) => ({
      client_id: client.clientId,
      sessions: client.sessions,
      subjects: client.subjects,
    })),
    clients_omitted: Math.max(0, byClient.length - CLIENTS_MAX),
  }
}

export function invalidDryRun(detail: string): ProblemError {
  return new ProblemError({
    status: 400,
    title: 'Dry run not possible',
    detail: `${detail} Nothing was accepted.`,
    errors: [{ pointer: '/dry_run', detail: 'must be absent, or come with one event of scope issuer' }],
  })
}
