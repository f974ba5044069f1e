import {
  encodeSessionEnd,
  encodeSessionStart,
  type Scope,
  SessionAccepted,
  SessionAcceptedOrRejected,
  SessionEndQuery,
  SessionInput,
  sessionsPath,
} from '@curfew/contract'
import type { ClientId, EventLog, Issuer, SessionChange, Sid } from '@curfew/domain'
import { createValidator, type HttpServer, type RouteAccess, traceparentOf } from '@curfew/runtime'
import { Type } from 'typebox'
import { acceptSession } from './accept-session.ts'
import { createPosting, ELEMENTS_MAX, foreignIssuer, invalidElement, posterReach } from './posting.ts'
import type { SessionQuotas } from './session-quotas.ts'

export interface PostSessionsDeps {
  readonly eventLog: EventLog
  readonly now: () => Date
  readonly newRecordId: () => string
  /** Why a session is more than its issuer may have, or than the event log may hold; or null. */
  readonly refusal: SessionQuotas['refusal']
}

/** A change that was accepted, and its stamp. */
type Accepted = SessionChange & { readonly id: string; readonly acceptedAt: Date }

const ONE = 'session'
const MANY = 'sessions'
const WRITE = {
  scope: 'sessions:write',
  reach: 'handler',
  budget: 'sessions',
  elementsMax: ELEMENTS_MAX,
} satisfies RouteAccess<Scope>

/**
 * `POST` and `DELETE /v1/sessions`: what an IdP says of its sessions goes into the event log, as logouts do, in a lane of its own.
 * Neither waits for PostgreSQL, nor a logout for either.
 */
export function registerPostSessions(
  server: HttpServer,
  { eventLog, now, newRecordId, refusal }: PostSessionsDeps,
): void {
  const check = createValidator(SessionInput)
  const stamped = (change: SessionChange): Accepted => ({ ...change, id: newRecordId(), acceptedAt: now() })
  const answer = (change: SessionChange): SessionAccepted => ({
    status: 'accepted',
    links: { session: sessionsPath(change.kind === 'started' ? change.session : change.end) },
  })
  const posting = createPosting<Accepted, SessionAccepted>({
    eventLog,
    one: ONE,
    many: MANY,
    examiner: (reach) => (value, prefix) => {
      const faults = check(value)
      if (faults.length > 0) return { problem: invalidElement(ONE, faults, prefix) }
      const session = acceptSession(value as SessionInput, now())
      if (!('iss' in session)) return { problem: invalidElement(ONE, session, prefix) }
      const foreign = foreignIssuer(reach, session.iss, prefix)
      if (foreign !== null) return { problem: foreign }
      const refused = refusal(session)
      return refused === null ? { item: stamped({ kind: 'started', session }) } : { problem: refused }
    },
    encode: ({ id, acceptedAt, ...change }, traceparent) =>
      change.kind === 'started'
        ? encodeSessionStart(change.session, { id, acceptedAt, traceparent })
        : encodeSessionEnd(change.end, { id, acceptedAt, traceparent }),
    answer,
  })

  const checkOthers = server.validatorCompiler
  server.post(
    '/v1/sessions',
    {
      config: WRITE,
      // Elements are checked one by one in the handler, by the same schema: one bad element must not cost the others.
      validatorCompiler: (part) =>
        part.httpPart === 'body' || checkOthers === undefined ? () => true : checkOthers(part),
      schema: {
        summary:
          'Post a session that a client has, or an array of up to 1,000; and again when it is extended.',
        body: Type.Union([SessionInput, Type.Array(SessionInput, { minItems: 1, maxItems: ELEMENTS_MAX })]),
        response: {
          202: Type.Union([SessionAcceptedOrRejected, Type.Array(SessionAcceptedOrRejected)]),
          207: Type.Array(SessionAcceptedOrRejected),
        },
      },
    },
    async (request, reply) => {
      const { status, body } = await posting.post(request)
      return status === 207 ? reply.code(207).send(body) : reply.code(202).send(body)
    },
  )

  server.delete(
    '/v1/sessions',
    {
      config: WRITE,
      schema: {
        summary: 'A session ended by itself, at one client or at all: nobody is told.',
        querystring: SessionEndQuery,
        response: { 202: SessionAccepted },
      },
    },
    async (request, reply) => {
      const { iss, sid, client_id } = request.query
      const foreign = foreignIssuer(posterReach(request, MANY), iss, '')
      if (foreign !== null) throw foreign
      const end = { iss: iss as Issuer, sid: sid as Sid, clientId: (client_id ?? null) as ClientId | null }
      await posting.append([stamped({ kind: 'ended', end })], traceparentOf(request))
      return reply.code(202).send(answer({ kind: 'ended', end }))
    },
  )
}
