import { createHash } from 'node:crypto'
import {
  type Accepted,
  AcceptedOrRejected,
  encodeLogoutEvent,
  eventPath,
  IssuerLogoutPreview,
  LogoutEventInput,
  type Scope,
} from '@curfew/contract'
import { type EventLog, type Issuer, type LogLane, type LogoutEvent, sameContent } from '@curfew/domain'
import type { IssuerLogoutPreview as Counted } from '@curfew/ledger'
import { createValidator, type HttpServer, hasScope, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import { acceptEvent } from './accept.ts'
import { dryRun, notPossible } from './dry-run.ts'
import { payForLogouts } from './pay-for-logouts.ts'
import { createPosting, ELEMENTS_MAX, type Element, foreignIssuer, invalidElement } from './posting.ts'
import { createRecentIds } from './recent-ids.ts'

export interface PostEventsDeps {
  readonly eventLog: EventLog
  readonly now: () => Date
  readonly newEventId: () => string
  /** Whether too much waits in a lane of the event log for more of it to be taken. */
  readonly isFull: (lane: LogLane) => boolean
  /** Short name of an issuer; null if it is not registered, or if the ledger does not answer soon. */
  readonly nameOf: (iss: Issuer) => Promise<string | null>
  /** What a logout of everyone would touch now. */
  readonly previewIssuerLogout: (event: LogoutEvent) => Promise<Counted>
}

const RECENT_IDS = 50_000
const ONE = 'logout event'

/** An event, and what it says. */
interface Posted {
  readonly event: LogoutEvent
  readonly content: string
  /** Short name of the issuer that the caller is bound to; null for an unbound caller. */
  readonly issuer: string | null
}

/**
 * `POST /v1/logout-events`: the one write of ingest is the append to the event log, and nothing is answered before it is
 * durable. Of an array the valid elements are appended together; each has its own status in the answer.
 */
export function registerPostEvents(server: HttpServer, deps: PostEventsDeps): void {
  const { eventLog, now, newEventId, isFull } = deps
  const check = createValidator(LogoutEventInput)
  const recent = createRecentIds(RECENT_IDS)
  const posting = createPosting<Posted, Accepted>({
    eventLog,
    one: ONE,
    many: 'logout events',
    queueOf: ({ event }) => event.lane,
    examiner(reach, caller, request) {
      const refusal = payForLogouts(request, isFull)
      // The contents of the elements before.
      const inRequest = new Map<string, string>()
      return (value, prefix): Element<Posted> => {
        const faults = check(value)
        if (faults.length > 0) return { problem: invalidElement(ONE, faults, prefix) }
        const event = acceptEvent(value as LogoutEventInput, {
          ...{ now: now(), newId: newEventId, requestedBy: caller.name },
        })
        if (!('id' in event)) return { problem: invalidElement(ONE, event, prefix) }
        const foreign = foreignIssuer(reach, event.iss, prefix)
        if (foreign !== null) return { problem: foreign }
        if (event.scope === 'issuer' && !hasScope(caller, 'admin')) {
          return {
            problem: new ProblemError({
              status: 403,
              detail: 'Logging everyone out needs the scope admin. The event was not accepted.',
              headers: { 'www-authenticate': 'Bearer error="insufficient_scope", scope="admin"' },
              errors: [{ pointer: `${prefix}/scope`, detail: 'is issuer, which needs the scope admin' }],
            }),
          }
        }
        // One record, however many people it is about: a breach does not wait for a backlog.
        if (refusal !== null && event.lane === 'bulk' && event.scope !== 'issuer') return { problem: refusal }
        const content = createHash('sha256').update(sameContent(event)).digest('base64url')
        const known = inRequest.get(event.id) ?? recent.find(event.id)
        if (known !== undefined && known !== content) {
          return {
            problem: new ProblemError({
              status: 409,
              title: 'Id in use',
              detail: `An event with id ${event.givenId} was accepted with another content. Give a new event a new id.`,
              errors: [{ pointer: `${prefix}/id`, detail: 'is the id of another event' }],
            }),
          }
        }
        inRequest.set(event.id, content)
        return { item: { event, content, issuer: reach.kind === 'issuer' ? reach.issuer : null } }
      }
    },
    encode: ({ event }, traceparent) => encodeLogoutEvent(event, traceparent),
    onAppended(posted) {
      for (const { event, content } of posted) recent.add(event.id, content)
    },
    async answer({ event: { givenId, iss }, issuer }) {
      const event = { givenId, issuer: issuer ?? (await deps.nameOf(iss)) }
      return {
        id: givenId,
        status: 'accepted',
        links: { self: eventPath(event), receipt: eventPath(event, '/receipt') },
      }
    },
  })

  const checkOthers = server.validatorCompiler
  server.post(
    '/v1/logout-events',
    {
      config: {
        scope: 'events:write',
        reach: 'handler',
        budget: 'logouts',
        cost: 'handler',
        elementsMax: ELEMENTS_MAX,
      } satisfies RouteAccess<Scope>,
      // Elements are checked one by one in the handler, by the same schema: one bad element must not cost the others.
      validatorCompiler: (part) =>
        part.httpPart === 'body' || checkOthers === undefined ? () => true : checkOthers(part),
      schema: {
        summary: 'Post a logout event, or an array of up to 1,000.',
        body: Type.Union([
          LogoutEventInput,
          Type.Array(LogoutEventInput, { minItems: 1, maxItems: ELEMENTS_MAX }),
        ]),
        querystring: Type.Object({
          dry_run: Type.Boolean({
            default: false,
            description: 'Of one event of scope issuer: say what it would touch, and accept nothing.',
          }),
        }),
        response: {
          200: IssuerLogoutPreview,
          202: Type.Union([AcceptedOrRejected, Type.Array(AcceptedOrRejected)]),
          207: Type.Array(AcceptedOrRejected),
        },
      },
    },
    async (request, reply) => {
      if (request.query.dry_run) {
        if (Array.isArray(request.body)) throw notPossible('dry_run is for one event, not for an array.')
        return reply.code(200).send(await dryRun(posting.examine(request).event, deps.previewIssuerLogout))
      }
      const { status, body } = await posting.post(request)
      return status === 207 ? reply.code(207).send(body) : reply.code(202).send(body)
    },
  )
}
