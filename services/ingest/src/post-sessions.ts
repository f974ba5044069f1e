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
import type { ClientId, Issuer, LogRecord, Session, SessionEnd, Sid } from '@curfew/domain'
import {
  createBodyValidator,
  type HttpServer,
  type ProblemError,
  type RouteAccess,
  traceparentOf,
} from '@curfew/runtime'
import { send } from '@curfew/wiring'
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
  type PostRequest,
  type WriteAccess,
  writeAccess,
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

/** Compiled once per process, because that takes milliseconds. */
const check = createBodyValidator(SessionInput)

/**
 * `POST` and `DELETE /v1/sessions`: append starts and ends of sessions to the event log, in a lane of their own. So they do not
 * need PostgreSQL, and they do not delay logouts.
 */
export function registerPostSessions(server: HttpServer, deps: PostSessionsDeps): void {
  const { append, now, newId } = deps
  const stamp = (traceparent: string) => ({ id: newId(), acceptedAt: now(), traceparent })
  const sendAll = <Item>(
    request: PostRequest,
    items: readonly Item[],
    encode: (item: Item, stamped: ReturnType<typeof stamp>) => LogRecord,
  ) =>
    send(
      {
        items,
        parent: traceparentOf(request),
        laneOf: () => 'sessions',
        encode: (item, traceparent) => encode(item, stamp(traceparent)),
      },
      (records) => append(records, SESSIONS.one),
    )
  server.post(
    '/v1/sessions',
    {
      config: WRITE,
      validatorCompiler: checkAllButBody(server),
      schema: {
        operationId: 'postSessions',
        tags: ['Sessions'],
        summary:
          'Post a session of a client, or an array of up to 1,000. Post a session again when it is extended.',
        body: Type.Union([SessionInput, Type.Array(SessionInput, { minItems: 1, maxItems: ELEMENTS_MAX })]),
        response: {
          202: Type.Union([SessionAcceptedOrRejected, Type.Array(SessionAcceptedOrRejected)]),
          207: Type.Array(SessionAcceptedOrRejected),
        },
      },
    },
    async (request, reply) => {
      const elements = elementsOf(request.body, SESSIONS)
      const access = writeAccess(request, SESSIONS)
      const results = elements.map((element) => accept(element, access, deps))
      const sessions = acceptedOf(results, request.body, SESSIONS)
      await sendAll(request, sessions, encodeSessionStart)
      const { status, body } = await answerTo(request, results, acceptedAnswer)
      return status === 207 ? reply.code(207).send(body) : reply.code(202).send(body)
    },
  )

  server.delete(
    '/v1/sessions',
    {
      config: WRITE,
      schema: {
        operationId: 'endSession',
        tags: ['Sessions'],
        summary:
          'Report that a session ended by itself, at one client or at all. No relying party is notified.',
        querystring: SessionEndQuery,
        response: { 202: SessionAccepted },
      },
    },
    async (request, reply) => {
      const { iss, sid, client_id } = request.query
      const foreign = foreignIssuer(writeAccess(request, SESSIONS), iss, '')
      if (foreign !== null) throw foreign
      const end = { iss: iss as Issuer, sid: sid as Sid, clientId: (client_id ?? null) as ClientId | null }
      await sendAll(request, [end], encodeSessionEnd)
      return reply.code(202).send(acceptedAnswer(end))
    },
  )
}

/** Checks one element of a body. @returns its session, or the reason for its rejection. */
function accept(
  { value, pointer }: Element,
  access: WriteAccess,
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
