import { createHash } from 'node:crypto'
import {
  AcceptedOrRejected,
  encodeLogoutEvent,
  eventPath,
  IssuerLogoutPreview,
  LogoutEventInput,
  type Scope,
} from '@curfew/contract'
import { type EventId, type LogoutEvent, sameContent } from '@curfew/domain'
import { type Database, type IssuerNames, previewIssuerLogout } from '@curfew/ledger'
import {
  type Credential,
  callerOf,
  createBodyValidator,
  type HttpServer,
  hasScope,
  ProblemError,
  type RouteAccess,
  traceparentOf,
} from '@curfew/runtime'
import { send } from '@curfew/wiring'
import { Type } from 'typebox'
import { acceptEvent } from './accept.ts'
import type { Append } from './append.ts'
import { dryRun, invalidDryRun, limitPreviews } from './dry-run.ts'
import {
  acceptedOf,
  answerTo,
  checkAllButBody,
  ELEMENTS_MAX,
  type Element,
  elementsOf,
  foreignIssuer,
  invalidElement,
  type WriteAccess,
  writeAccess,
} from './elements.ts'
import type { LaneLimits } from './lane-limits.ts'
import { payForLogouts } from './pay-for-logouts.ts'
import { createRecentIds, type RecentIds } from './recent-ids.ts'

export interface PostEventsDeps {
  readonly append: Append
  /** Used only to preview issuer logouts. */
  readonly db: Database
  readonly lanes: Pick<LaneLimits, 'isFull'>
  readonly names: Pick<IssuerNames, 'nameOf'>
  readonly now: () => Date
  readonly newId: () => string
}

const RECENT_IDS = 50_000
const LOGOUT_EVENTS = { one: 'logout event', many: 'logout events' }

/** Compiled once per process, because that takes milliseconds. */
const check = createBodyValidator(LogoutEventInput)

const ROUTE = {
  config: {
    scope: 'events:write',
    access: 'handler',
    budget: 'logouts',
    cost: 'handler',
    elementsMax: ELEMENTS_MAX,
  } satisfies RouteAccess<Scope>,
  schema: {
    operationId: 'postLogoutEvents',
    tags: ['Logout events'],
    summary: 'Post a logout event, or an array of up to 1,000.',
    body: Type.Union([
      LogoutEventInput,
      Type.Array(LogoutEventInput, { minItems: 1, maxItems: ELEMENTS_MAX }),
    ]),
    querystring: Type.Object({
      dry_run: Type.Boolean({
        default: false,
        description:
          'For one event of scope issuer: preview the sessions that it would end, and accept nothing.',
      }),
    }),
    response: {
      200: IssuerLogoutPreview,
      202: Type.Union([AcceptedOrRejected, Type.Array(AcceptedOrRejected)]),
      207: Type.Array(AcceptedOrRejected),
    },
  },
}

/**
 * `POST /v1/logout-events`: appends logout events to the event log, and answers after they are durable. It appends the valid
 * elements of an array together. The answer has a status for every element.
 */
export function registerPostEvents(server: HttpServer, deps: PostEventsDeps): void {
  const { append, db, lanes, names, now, newId } = deps
  const recent = createRecentIds(RECENT_IDS)
  const preview = limitPreviews((event) => previewIssuerLogout(db, event))
  server.post(
    '/v1/logout-events',
    { ...ROUTE, validatorCompiler: checkAllButBody(server) },
    async (request, reply) => {
      const { body, query } = request
      if (query.dry_run && Array.isArray(body))
        throw invalidDryRun('dry_run is for one event, not for an array.')
      const elements = elementsOf(body, LOGOUT_EVENTS)
      const access = writeAccess(request, LOGOUT_EVENTS)
      const post: Post = {
        ...{ access, recent, now, newId },
        caller: callerOf(request),
        bulkRefusal: payForLogouts(request, lanes),
        contents: new Map(),
      }
      const results = elements.map((element) => accept(element, post))
      const events = acceptedOf(results, body, LOGOUT_EVENTS)
      if (query.dry_run) return reply.code(200).send(await dryRun(events[0], preview))
      await send(
        {
          items: events,
          parent: traceparentOf(request),
          laneOf: ({ lane }) => lane,
          encode: encodeLogoutEvent,
        },
        (records) => append(records, LOGOUT_EVENTS.one),
      )
      for (const [id, content] of post.contents) recent.add(id, content)
      const answered = await answerTo(request, results, async ({ givenId, iss }) => {
        const issuer = access.kind === 'issuer' ? access.issuer : await names.nameOf(iss)
        const event = { givenId, issuer }
        return {
          id: givenId,
          status: 'accepted' as const,
          links: { self: eventPath(event), receipt: eventPath(event, '/receipt') },
        }
      })
      return answered.status === 207
        ? reply.code(207).send(answered.body)
        : reply.code(202).send(answered.body)
    },
  )
}

/** The context of one request, which all of its elements are checked against. */
interface Post extends Pick<PostEventsDeps, 'now' | 'newId'> {
  readonly access: WriteAccess
  readonly caller: Credential
  /** The refusal of bulk events, or null. */
  readonly bulkRefusal: ProblemError | null
  readonly recent: RecentIds
  /** The contents of the accepted elements of this request, by id. */
  readonly contents: Map<EventId, string>
}

/** Checks one element of a body. @returns its event, or the reason for its rejection. */
function accept({ value, pointer }: Element, post: Post): LogoutEvent | ProblemError {
  const { access, caller, bulkRefusal } = post
  const faults = check(value)
  if (faults.length > 0) return invalidElement(LOGOUT_EVENTS, faults, pointer)
  const event = acceptEvent(value as LogoutEventInput, {
    ...{ now: post.now(), newId: post.newId, requestedBy: caller.name },
  })
  if (!('id' in event)) return invalidElement(LOGOUT_EVENTS, event, pointer)
  const foreign = foreignIssuer(access, event.iss, pointer)
  if (foreign !== null) return foreign
  if (event.scope === 'issuer' && !hasScope(caller, 'admin')) return notAdmin(pointer)
  // An issuer logout is one record and may be urgent after a breach, so a full bulk lane does not refuse it.
  if (bulkRefusal !== null && event.lane === 'bulk' && event.scope !== 'issuer') return bulkRefusal
  const content = createHash('sha256').update(sameContent(event)).digest('base64url')
  const known = post.contents.get(event.id) ?? post.recent.find(event.id)
  if (known !== undefined && known !== content) return idInUse(event, pointer)
  post.contents.set(event.id, content)
  return event
}

function notAdmin(pointer: string): ProblemError {
  return new ProblemError({
    status: 403,
    detail:
      'An issuer logout needs the scope admin, which this credential does not have. The event was not accepted.',
    headers: { 'www-authenticate': 'Bearer error="insufficient_scope", scope="admin"' },
    errors: [
      { pointer: `${pointer}/scope`, detail: 'is issuer, which needs a credential with the scope admin' },
    ],
  })
}

function idInUse({ givenId }: LogoutEvent, pointer: string): ProblemError {
  return new ProblemError({
    status: 409,
    title: 'Id in use',
    detail: `An event with id ${givenId} was accepted with other content. Give a new event a new id.`,
    errors: [{ pointer: `${pointer}/id`, detail: 'is the id of another event' }],
  })
}
