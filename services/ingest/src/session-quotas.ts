import type { Issuer, Session } from '@curfew/domain'
import { type Database, ENDLESS_GAP, listOverQuota, noteBacklogGaps, noteGaps } from '@curfew/ledger'
import { type Log, ProblemError, type Service, sleep } from '@curfew/runtime'
import { type LaneLimits, laneFull } from './lane-limits.ts'

/** Refuses sessions of issuers over their quota, and sessions of all issuers while the event log is full. */
export interface SessionQuotas {
  /** The refusal of a session, or null. */
  refusal(session: Pick<Session, 'iss' | 'expiresAt'>): ProblemError | null
  readonly service: Service
}

const POLL_MS = 3_000
const RETRY_AFTER_S = 60
/** A gap is noted this much beyond the end of a session, so that one note covers many sessions. */
const AHEAD_MS = 86_400_000

/**
 * Follows the issuers that the ledger marks as over their quota. The ledger notes per issuer until when the session index may
 * have gaps, and plans rely on that note. So a session is refused only if it ends within the noted time. A session that ends
 * later is accepted, and extends the note for the sessions after it. While the ledger is unavailable no note is extended, so no
 * further sessions are refused.
 *
 * A full event log refuses sessions by the same rule. The backlog may be another issuer's, and must not hide a session from a
 * logout.
 */
export function createSessionQuotas({
  db,
  lanes,
  log,
}: {
  db: Database
  lanes: Pick<LaneLimits, 'isFull'>
  log: Log
}): SessionQuotas {
  let over: ReadonlyMap<Issuer, Date> = new Map()
  const backlogGaps = new Map<Issuer, Date>()
  const note = createNoting(log)

  async function refresh(): Promise<void> {
    try {
      over = new Map((await listOverQuota(db)).map(({ iss, gapsUntil }) => [iss, gapsUntil]))
    } catch (error) {
      log.warn({ event: 'session-quotas.stale', err: error })
    }
  }

  async function noteOver(iss: Issuer, until: Date): Promise<void> {
    const gapsUntil = await noteGaps(db, { iss, until })
    const next = new Map(over)
    if (gapsUntil === null) next.delete(iss)
    else next.set(iss, gapsUntil)
    over = next
  }

  /** The refusal while the event log is full. A session beyond the noted gap is accepted even then. */
  function backlogRefusal({ iss, expiresAt }: Pick<Session, 'iss' | 'expiresAt'>): ProblemError | null {
    if (!lanes.isFull('sessions')) {
      backlogGaps.clear()
      return null
    }
    const gapsUntil = backlogGaps.get(iss)
    if (gapsUntil !== undefined && isWithin(expiresAt, gapsUntil)) return laneFull('sessions', 'sessions')
    const until = gapFor(expiresAt)
    void note(iss, async () => void backlogGaps.set(iss, await noteBacklogGaps(db, { iss, until })))
    return null
  }

  return {
    refusal({ iss, expiresAt }) {
      const backlogged = backlogRefusal({ iss, expiresAt })
      if (backlogged !== null) return backlogged
      const gapsUntil = over.get(iss)
      if (gapsUntil === undefined) return null
      if (isWithin(expiresAt, gapsUntil)) return overQuota(iss)
      void note(iss, () => noteOver(iss, gapFor(expiresAt)))
      return null
    },
    service: {
      name: 'session quotas',
      async run({ stopping, ready }) {
        ready()
        while (!stopping.aborted) {
          await refresh()
          await sleep(POLL_MS, stopping)
        }
      },
    },
  }
}

/** Whether a session ends within a noted gap. A session without an end is only within a gap without one. */
function isWithin(expiresAt: Date | null, gapsUntil: Date): boolean {
  return (expiresAt ?? ENDLESS_GAP) <= gapsUntil
}

/** The gap to note before sessions like this one are refused. */
function gapFor(expiresAt: Date | null): Date {
  return expiresAt === null ? ENDLESS_GAP : new Date(expiresAt.getTime() + AHEAD_MS)
}

/** Creates a function that runs `work`, unless other work for the same issuer is running. It logs failures. */
function createNoting(log: Log): (iss: Issuer, work: () => Promise<void>) => Promise<void> {
  const noting = new Set<Issuer>()
  return async (iss, work) => {
    if (noting.has(iss)) return
    noting.add(iss)
    try {
      await work()
    } catch (error) {
      log.warn({ event: 'session-quotas.not-noted', err: error })
    } finally {
      noting.delete(iss)
    }
  }
}

function overQuota(iss: Issuer): ProblemError {
  return new ProblemError({
    status: 429,
    title: 'Session quota exceeded',
    detail: `${iss} has reached its quota of sessions in the index. The session was not accepted. Logouts are still accepted, and go to every relying party that may hold a session. Post sessions with their real expires_at and post their ends, or ask the operator for a higher quota.`,
    headers: { 'retry-after': String(RETRY_AFTER_S) },
    extensions: { quota: 'sessions' },
  })
}
