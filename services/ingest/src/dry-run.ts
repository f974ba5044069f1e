import type { IssuerLogoutPreview } from '@curfew/client'
import type { LogoutEvent } from '@curfew/domain'
import type { IssuerLogoutPreview as Counted } from '@curfew/ledger'
import { createBatcher, ProblemError, QueueFullError } from '@curfew/runtime'

/** Most clients that are listed. */
const CLIENTS_MAX = 1_000

/** Previews that are made at once, and that wait: each reads all sessions of an issuer. */
const PREVIEWS = 2
const PREVIEWS_WAITING = 16

/** The same preview, but few at once. @throws {ProblemError} 429 when too many wait. */
export function fewAtOnce(
  preview: (event: LogoutEvent) => Promise<Counted>,
): (event: LogoutEvent) => Promise<Counted> {
  const previews = createBatcher<LogoutEvent, Counted>({
    batchSize: 1,
    concurrency: PREVIEWS,
    queueMax: PREVIEWS_WAITING,
    run: (events) => Promise.all(events.map(preview)),
  })
  return async (event) => {
    try {
      return await previews.add(event)
    } catch (error) {
      if (!(error instanceof QueueFullError)) throw error
      throw new ProblemError(
        {
          status: 429,
          title: 'Too many previews at once',
          detail: 'Others are counting already. Ask again in a moment. Nothing was accepted.',
          headers: { 'retry-after': '2' },
        },
        { cause: error },
      )
    }
  }
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
