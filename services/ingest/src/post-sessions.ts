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
import type { ClientId, Issuer, LogRecord, Session, SessionEnd, SessionToken, Sid } from '@curfew/domain'
import {
  createBodyValidator,
  type HttpServer,
  ProblemError,
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
  readonly sealTokens: SealTokens | null
  readonly now: () => Date
  readonly newId: () => string
}

/** Encrypts the tokens of a session for storage. Null: there is no master key, and sessions with tokens are refused. */
export type SealTokens = (tokens: readonly SessionToken[], session: Session) => Promise<string>

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
      const results = await Promise.all(elements.map((element) => accept(element, access, deps)))
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

/** Checks one element of a body. @returns its session with sealed tokens, or the reason for its rejection. */
async function accept(
  { value, pointer }: Element,
  access: WriteAccess,
  { now, quotas, sealTokens }: PostSessionsDeps,
): Promise<Session | ProblemError> {
  const faults = check(value)
  if (faults.length > 0) return invalidElement(SESSIONS, faults, pointer)
  const input = value as SessionInput
  const session = acceptSession(input, now())
  if (!('iss' in session)) return invalidElement(SESSIONS, session, pointer)
  const refusal = foreignIssuer(access, session.iss, pointer) ?? quotas.refusal(session)
  if (refusal !== null || input.revocation === undefined) return refusal ?? session
  if (sealTokens === null) return noMasterKey(pointer)
  const tokens = input.revocation.map(({ token, hint = null }) => ({ token, hint }))
  return { ...session, sealedTokens: await sealTokens(tokens, session) }
}

function noMasterKey(pointer: string): ProblemError {
  return new ProblemError({
    status: 409,
    title: 'No master key',
    detail:
      'This service has no CURFEW_MASTER_KEY, so it cannot encrypt the tokens of the session. The session was not accepted. Set CURFEW_MASTER_KEY at ingest to that of the delivery service, or post the session without revocation.',
    errors: [{ pointer: `${pointer}/revocation`, detail: 'must be absent while ingest has no master key' }],
  })
}

function acceptedAnswer(session: Session | SessionEnd): SessionAccepted {
  return { status: 'accepted', links: { session: sessionsPath(session) } }
}
