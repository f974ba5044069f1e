import type { Issuer, Session } from '@curfew/domain'
import { type Database, listOverQuota, noteBacklogGaps, noteGaps } from '@curfew/ledger'
import { type Log, ProblemError, type Service, sleep } from '@curfew/runtime'
import { type LaneLimits, laneFull } from './lane-limits.ts'

/** Refuses sessions of issuers that have too many, and sessions of any issuer while the event log is full. */
export interface SessionQuotas {
  /** Why this session is not taken, or null. */
  refusal(session: Pick<Session, 'iss' | 'expiresAt'>): ProblemError | null
  readonly service: Service
}

const POLL_MS = 3_000
const RETRY_AFTER_S = 60
/** How much further than a session lives its gap is noted: so that few notes do for many sessions. */
const AHEAD_MS = 86_400_000

/**
 * Keeps up with the issuers that the ledger has marked as over their quota. A session of theirs is refused only once the ledger
 * knows that the index may lack it, for plans rely on that; one that outlives what the ledger knows is taken, and has it noted for
 * those that follow. While the ledger is away nothing new is noted, and so nothing more is refused.
 *
 * A full event log refuses sessions in the same way: the backlog may be another issuer's, and must not hide a session from a logout.
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

  async function look(): Promise<void> {
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

  /** A session that the ledger may not lack yet is accepted, however full the event log is. */
  function backlogRefusal({ iss, expiresAt }: Pick<Session, 'iss' | 'expiresAt'>): ProblemError | null {
    if (!lanes.isFull('sessions')) {
      backlogGaps.clear()
      return null
    }
    const gapsUntil = backlogGaps.get(iss)
    if (gapsUntil !== undefined && expiresAt <= gapsUntil) return laneFull('sessions', 'sessions')
    const until = new Date(expiresAt.getTime() + AHEAD_MS)
    void note(iss, async () => void backlogGaps.set(iss, await noteBacklogGaps(db, { iss, until })))
    return null
  }

  return {
    refusal({ iss, expiresAt }) {
      const backlogged = backlogRefusal({ iss, expiresAt })
      if (backlogged !== null) return backlogged
      const gapsUntil = over.get(iss)
      if (gapsUntil === undefined) return null
      if (expiresAt > gapsUntil) {
        void note(iss, () => noteOver(iss, new Date(expiresAt.getTime() + AHEAD_MS)))
        return null
      }
      return overQuota(iss)
    },
    service: {
      name: 'session quotas',
      async run({ stopping, ready }) {
        ready()
        while (!stopping.aborted) {
          await look()
          await sleep(POLL_MS, stopping)
        }
      },
    },
  }
}

/** Runs `work` unless some for the same issuer is under way. What fails is logged. */
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
    title: 'Quota of sessions',
    detail: `${iss} has as many sessions in the index as it may. This one was not accepted. Logouts are accepted, and go to every relying party that may hold a session. Post sessions with their real expires_at, and their ends, or have the quota raised.`,
    headers: { 'retry-after': String(RETRY_AFTER_S) },
    extensions: { quota: 'sessions' },
  })
}
