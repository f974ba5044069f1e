import type { IssuerLogoutPreview } from '@curfew/client'
import type { LogoutEvent } from '@curfew/domain'
import type { IssuerLogoutPreview as Counted } from '@curfew/ledger'
import { ProblemError } from '@curfew/runtime'

/** Most clients that are listed. */
const CLIENTS_MAX = 1_000

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
