import {
  eventPath,
  OrphanedSession,
  OrphansQuery,
  page,
  type Scope,
  Session,
  SessionsQuery,
} from '@curfew/contract'
import { conditionsOf, isSettled } from '@curfew/domain'
import {
  type Database,
  findIssEver,
  listOrphans,
  listOverlong,
  listSessionsOfSid,
  listSessionsOfSubject,
  type OrphanPosition,
  type OrphanRecord,
  type OverlongPosition,
  type SessionPosition,
  type SessionRecord,
} from '@curfew/ledger'
import { callerOf, type HttpServer, type RouteAccess } from '@curfew/runtime'
import type { Pages } from '../http/pages.ts'
import { invalid } from '../http/query.ts'
import { noSuchIssuer } from '../registry/issuers.ts'

// Sessions name the same subjects as deliveries, which support staff may read, so both have the same scope.
const READ = { scope: 'ledger:read', access: 'handler' } satisfies RouteAccess<Scope>

const GIVE_ONE = 'give one of sub, sid and overlong'

/** `GET /v1/sessions`: the posted sessions, and those that may still be open after a failed logout. */
export function registerSessions(server: HttpServer, { db, pages }: { db: Database; pages: Pages }): void {
  server.get(
    '/v1/sessions',
    {
      config: READ,
      schema: {
        operationId: 'listSessions',
        tags: ['Sessions'],
        summary:
          'List the posted sessions of a subject, the posted clients of one session, or the overlong sessions of an issuer. Give one of sub, sid and overlong. With overlong a page may have fewer than `limit` items, or none, and still have a `next_cursor`.',
        querystring: SessionsQuery,
        response: { 200: page(Session) },
      },
    },
    async (request) => {
      const { iss, sub, sid, overlong = false, client_id: clientId = null, limit, cursor } = request.query
      const [given, ...others] = [
        ...(sub === undefined ? [] : ['sub']),
        ...(sid === undefined ? [] : ['sid']),
        ...(overlong ? ['overlong'] : []),
      ]
      if (given === undefined) throw invalid('/sub', `is missing: ${GIVE_ONE}`)
      if (others[0] !== undefined)
        throw invalid(`/${others[0]}`, `must be absent if there is a ${given}: ${GIVE_ONE}`)
      const { readCursor, pageOf } = pages(request)
      const { access } = callerOf(request)
      const own = access.kind === 'everything' || access.iss === iss
      const { clientIds } = conditionsOf(access, { issuer: null, clientId })
      const asked = { iss, clientIds, limit: limit + 1 }
      const now = new Date()
      const view = (record: SessionRecord) => sessionView(record, now)
      const text = readCursor(cursor)
      if (overlong) {
        const after = readOverlongPosition(text)
        const { rows, reached } = own
          ? await listOverlong(db, { ...asked, after })
          : { rows: [], reached: null }
        return pageOf(
          rows,
          limit,
          ({ position }) => overlongKey(position),
          view,
          reached && overlongKey(reached),
        )
      }
      const after = readPosition(text)
      const records = !own
        ? []
        : sub !== undefined
          ? await listSessionsOfSubject(db, { ...asked, after, sub })
          : await listSessionsOfSid(db, { ...asked, after, sid: sid ?? '' })
      return pageOf(
        records,
        limit,
        (record) => JSON.stringify([record.sub, record.sid, record.clientId]),
        view,
      )
    },
  )

  server.get(
    '/v1/sessions/orphans',
    {
      config: READ,
      schema: {
        operationId: 'listOrphanedSessions',
        tags: ['Sessions'],
        summary:
          'List sessions whose logout failed or lapsed, the latest first. A page may have fewer than `limit` items, or none, and still have a `next_cursor`.',
        querystring: OrphansQuery,
        response: { 200: page(OrphanedSession) },
      },
    },
    async (request) => {
      const { issuer = null, client_id: clientId = null, limit, cursor } = request.query
      const { readCursor, pageOf } = pages(request)
      const { access } = callerOf(request)
      // An unknown issuer is an error, because an empty list would hide a typing error. A bound credential gets an empty list for
      // other issuers, so it cannot find out which issuers exist.
      if (issuer !== null && access.kind === 'everything' && (await findIssEver(db, issuer)) === null)
        throw noSuchIssuer(issuer)
      const { rows, reached } = await listOrphans(db, {
        ...conditionsOf(access, { issuer, clientId }),
        before: readOrphanPosition(readCursor(cursor)),
        limit: limit + 1,
      })
      return pageOf(
        rows,
        limit,
        ({ position }) => orphanKey(position),
        orphanView,
        reached && orphanKey(reached),
      )
    },
  )
}

/** The parts of a cursor, which must have one of the given lists of types. @throws a 400 problem. */
function readCursorParts(text: string | null, ...types: readonly string[]): readonly unknown[] | null {
  if (text === null) return null
  try {
    const parts: unknown = JSON.parse(text)
    if (Array.isArray(parts) && types.includes(parts.map((part) => typeof part).join(' '))) return parts
  } catch {
    // The problem below reports it.
  }
  throw invalid('/cursor', 'is not a cursor of this list')
}

function readPosition(text: string | null): SessionPosition | null {
  const parts = readCursorParts(text, 'string string string')
  if (parts === null) return null
  const [sub, sid, clientId] = parts as [string, string, string]
  return { sub, sid, clientId }
}

const orphanKey = ({ micros, issuer, sub, sid, clientId }: OrphanPosition) =>
  JSON.stringify([micros, issuer, sub, sid, clientId])

function readOrphanPosition(text: string | null): OrphanPosition | null {
  const parts = readCursorParts(text, 'number number string string string')
  if (parts === null) return null
  const [micros, issuer, sub, sid, clientId] = parts as [number, number, string, string, string]
  const possible = Number.isSafeInteger(micros) && Number.isInteger(issuer) && Math.abs(issuer) < 2 ** 31
  if (!possible) throw invalid('/cursor', 'is not a cursor of this list')
  return { micros, issuer, sub, sid, clientId }
}

const overlongKey = ({ clientId, after }: OverlongPosition) =>
  JSON.stringify(after === null ? [clientId] : [clientId, after.micros, after.sub, after.sid])

function readOverlongPosition(text: string | null): OverlongPosition | null {
  const parts = readCursorParts(text, 'string', 'string number string string')
  if (parts === null) return null
  const [clientId, ...rest] = parts as [string, ...([] | [number, string, string])]
  if (rest.length === 0) return { clientId, after: null }
  const [micros, sub, sid] = rest
  return { clientId, after: { micros, sub, sid } }
}

/** The members that sessions and orphaned sessions have in common. */
function commonView(record: SessionRecord | OrphanRecord) {
  return {
    iss: record.iss,
    sub: record.sub,
    email: record.email,
    sid: record.sid,
    client_id: record.clientId,
    device: record.device,
    started_at: record.startedAt.toISOString(),
    expires_at: record.expiresAt?.toISOString() ?? null,
  }
}

/** The path of the logout event of a session; null if the event was deleted. */
function eventOf({ givenEventId: givenId, issuer }: SessionRecord | OrphanRecord): string | null {
  return givenId === null ? null : eventPath({ givenId, issuer })
}

function sessionView(record: SessionRecord, now: Date): Session {
  const { logoutEventId } = record
  const event = eventOf(record)
  return {
    ...commonView(record),
    overlong_since: overlongSince(record, now)?.toISOString() ?? null,
    logout:
      logoutEventId === null
        ? null
        : {
            event_id: record.givenEventId,
            orphaned_at: record.orphanedAt?.toISOString() ?? null,
            links: { event },
          },
  }
}

function overlongSince({ startedAt, overlongAfterMs }: SessionRecord, now: Date): Date | null {
  if (overlongAfterMs === null) return null
  const since = new Date(startedAt.getTime() + overlongAfterMs)
  return since < now ? since : null
}

function orphanView(record: OrphanRecord): OrphanedSession {
  const { delivery } = record
  return {
    issuer: record.issuer,
    ...commonView(record),
    orphaned_at: record.orphanedAt.toISOString(),
    event_id: record.givenEventId,
    why: whyOrphaned(record),
    links: {
      event: eventOf(record),
      delivery: delivery === null ? null : `/v1/deliveries/${delivery.id}`,
    },
  }
}

function whyOrphaned({ delivery, eventKept }: OrphanRecord): string | null {
  if (delivery === null) return eventKept ? 'never_planned' : null
  if (!isSettled(delivery.state)) return 'under_way'
  return delivery.deadLetterReason ?? delivery.state
}
