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
import type { ClientId, Issuer, Session, SessionEnd, Sid } from '@curfew/domain'
import {
  createValidator,
  type HttpServer,
  type ProblemError,
  type RouteAccess,
  traceparentOf,
} from '@curfew/runtime'
import { Type } from 'typebox'
import { acceptSession } from './accept-session.ts'
import type { Append } from './append.ts'
import {
  acceptedOf,
  answerTo,
  checkAllButBody,
  ELEMENTS_MAX,
  type Element,
  elementsOf,
  foreignIssuer,
  invalidElement,
  type PosterAccess,
  type PostRequest,
  posterAccess,
} from './elements.ts'
import type { SessionQuotas } from './session-quotas.ts'

export interface PostSessionsDeps {
  readonly append: Append
  readonly quotas: Pick<SessionQuotas, 'refusal'>
  readonly now: () => Date
  readonly newId: () => string
}

const SESSIONS = { one: 'session', many: 'sessions' }
const WRITE = {
  scope: 'sessions:write',
  access: 'handler',
  budget: 'sessions',
  elementsMax: ELEMENTS_MAX,
} satisfies RouteAccess<Scope>

/** Compiled once for a process, for it takes milliseconds. */
const check = createValidator(SessionInput)

/**
 * `POST` and `DELETE /v1/sessions`: what an IdP says of its sessions goes into the event log, as logouts do, in a lane of its own.
 * Neither waits for PostgreSQL, nor a logout for either.
 */
export function registerPostSessions(server: HttpServer, deps: PostSessionsDeps): void {
  const { append, now, newId } = deps
  const stamp = (request: PostRequest) => ({
    id: newId(),
    acceptedAt: now(),
    traceparent: traceparentOf(request),
  })
  server.post(
    '/v1/sessions',
    {
      config: WRITE,
      validatorCompiler: checkAllButBody(server),
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
      const elements = elementsOf(request.body, SESSIONS)
      const access = posterAccess(request, SESSIONS)
      const results = elements.map((element) => accept(element, access, deps))
      const sessions = acceptedOf(results, request.body, SESSIONS)
      await append(
        sessions.map((session) => encodeSessionStart(session, stamp(request))),
        SESSIONS.one,
      )
      const { status, body } = await answerTo(request, results, acceptedAnswer)
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
      const foreign = foreignIssuer(posterAccess(request, SESSIONS), iss, '')
      if (foreign !== null) throw foreign
      const end = { iss: iss as Issuer, sid: sid as Sid, clientId: (client_id ?? null) as ClientId | null }
      await append([encodeSessionEnd(end, stamp(request))], SESSIONS.one)
      return reply.code(202).send(acceptedAnswer(end))
    },
  )
}

/** The session that one element of a body asserts; or why it is rejected. */
function accept(
  { value, pointer }: Element,
  access: PosterAccess,
  { now, quotas }: PostSessionsDeps,
): Session | ProblemError {
  const faults = check(value)
  if (faults.length > 0) return invalidElement(SESSIONS, faults, pointer)
  const session = acceptSession(value as SessionInput, now())
  if (!('iss' in session)) return invalidElement(SESSIONS, session, pointer)
  return foreignIssuer(access, session.iss, pointer) ?? quotas.refusal(session) ?? session
}

function acceptedAnswer(session: Session | SessionEnd): SessionAccepted {
  return { status: 'accepted', links: { session: sessionsPath(session) } }
}
