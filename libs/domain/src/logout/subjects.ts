import type { ClientId, Subject } from '../ids.ts'
import { isPairwise, type PairwiseClients } from '../registry/subject-type.ts'
import type { LogoutEvent } from './event.ts'
import type { LiveSession } from './session-match.ts'

// A pairwise client knows a user by a `sub` of its own (OpenID Connect Core section 8.1), so that clients cannot compare their
// users. The names of one user are known from sessions that share a `sid`. No client is sent the pairwise `sub` of another one.

/** Names the subjects for the deliveries to one client. */
export type SubjectsFor = (clientId: ClientId, held: readonly LiveSession[]) => readonly (Subject | null)[]

/**
 * Decides which subjects the deliveries of an event name, for each client:
 * 1. the event's, if the identity provider made the relayed token for this client;
 * 2. those of the client's own sessions;
 * 3. the event's, if the event is for this client alone;
 * 4. for a pairwise client none, so that its deliveries name a `sid` only;
 * 5. the event's, unless it is the pairwise `sub` of another client;
 * 6. those of other public clients' sessions.
 *
 * The result has `null` alone if no subject is known.
 *
 * @param sessions the indexed sessions of the event's subject or `sid`, at every client.
 * @param pairwise the pairwise clients of the issuer; null if it has none.
 */
export function subjectsOf(
  event: LogoutEvent,
  sessions: readonly LiveSession[],
  pairwise: PairwiseClients | null,
): SubjectsFor {
  const { sub, relayed, clients } = event
  const shared = sub === null || isHidden(event, sessions, pairwise) ? publicNames() : [sub]
  return (clientId, held) => {
    if (sub !== null && relayed?.clientId === clientId) return [sub]
    if (held.length > 0) return subjectsIn(held)
    if (sub !== null && clients?.length === 1 && clients[0] === clientId) return [sub]
    return shared.length === 0 || isPairwise(pairwise, clientId) ? [null] : shared
  }

  function publicNames(): readonly Subject[] {
    return subjectsIn(
      sessions.filter(
        (session) =>
          session.sub !== sub &&
          (event.scope === 'session' || session.linked === true) &&
          !isPairwise(pairwise, session.clientId),
      ),
    )
  }
}

/** Whether the `sub` of an event is the pairwise `sub` of a client, so that no other client may be sent it. */
function isHidden(
  { sub, relayed }: LogoutEvent,
  sessions: readonly LiveSession[],
  pairwise: PairwiseClients | null,
): boolean {
  if (pairwise === null) return false
  const clientIds = sessions.filter((session) => session.sub === sub).map(({ clientId }) => clientId)
  if (clientIds.length === 0 && relayed !== undefined) clientIds.push(relayed.clientId)
  return clientIds.length > 0 && clientIds.every((clientId) => isPairwise(pairwise, clientId))
}

/** The distinct subjects of sessions. */
function subjectsIn(sessions: readonly Pick<LiveSession, 'sub'>[]): readonly Subject[] {
  return [...new Set(sessions.map(({ sub }) => sub))]
}
