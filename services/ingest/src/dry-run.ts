import type { IssuerLogoutPreview } from '@curfew/contract'
import type { LogoutEvent } from '@curfew/domain'
import type { IssuerLogoutPreview as Counted } from '@curfew/ledger'
import { createTurns, ProblemError } from '@curfew/runtime'

/** Most clients that are listed. */
const CLIENTS_MAX = 1_000

/** Previews that run at once, of one issuer and of all: each reads all sessions of an issuer. */
const PREVIEWS = { ofCaller: 1, waitingOfCaller: 2, atOnce: 2, waiting: 100, waitMs: 20_000 }

/** The same preview, but few at once, and issuers in turn. @throws {ProblemError} 429 when too many wait. */
export function fewAtOnce(
  preview: (event: LogoutEvent) => Promise<Counted>,
): (event: LogoutEvent) => Promise<Counted> {
  const turns = createTurns({
    ...PREVIEWS,
    refusal: (why) =>
      new ProblemError({
        status: 429,
        title: 'Too many previews at once',
        detail: `${why === 'caller' ? 'Other previews of this issuer' : 'Previews of other issuers'} are counting already. Ask again in a moment. Nothing was accepted.`,
        headers: { 'retry-after': '2' },
      }),
  })
  return (event) => turns.run(event.iss, () => preview(event))
}

/** What a logout of everyone would touch. @throws {ProblemError} 400 for any other event. */
export async function dryRun(
  event: LogoutEvent,
  preview: (event: LogoutEvent) => Promise<Counted>,
): Promise<IssuerLogoutPreview> {
  if (event.scope !== 'issuer') throw notPossible('dry_run is for scope issuer alone.')
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
    clients_left_out: Math.max(0, byClient.length - CLIENTS_MAX),
  }
}

export function notPossible(detail: string): ProblemError {
  return new ProblemError({
    status: 400,
    title: 'Nothing to try',
    detail: `${detail} Nothing was accepted.`,
    errors: [{ pointer: '/dry_run', detail: 'is for one event of scope issuer' }],
  })
}
