import { createHash } from 'node:crypto'
import {
  AcceptedOrRejected,
  encodeLogoutEvent,
  eventPath,
  LogoutEventInput,
  type Problem,
  type Scope,
} from '@curfew/client'
import {
  type EventLog,
  EventLogUnavailableError,
  type LogoutEvent,
  type Reach,
  sameContent,
} from '@curfew/domain'
import {
  callerOf,
  createBatcher,
  createValidator,
  type HttpServer,
  ProblemError,
  problemOf,
  QueueFullError,
  type RouteAccess,
  traceparentOf,
} from '@curfew/runtime'
import { Type } from 'typebox'
import { acceptEvent, type Fault } from './accept.ts'
import { createRecentIds } from './recent-ids.ts'

export interface PostEventsDeps {
  readonly eventLog: EventLog
  readonly now: () => Date
  readonly newEventId: () => string
}

/** Most events in one array. */
const EVENTS_MAX = 1_000
const RECENT_IDS = 50_000
const RETRY_AFTER_S = 2

/** One element of a post: the event it made, or why it made none. */
type Element = { readonly event: LogoutEvent; readonly content: string } | { readonly problem: ProblemError }

/**
 * `POST /v1/logout-events`: the one write of ingest is the append to the event log, and nothing is answered before it is
 * durable. Of an array the valid elements are appended together; each has its own status in the answer.
 */
export function registerPostEvents(server: HttpServer, { eventLog, now, newEventId }: PostEventsDeps): void {
  const check = createValidator(LogoutEventInput)
  const recent = createRecentIds(RECENT_IDS)
  const appends = createBatcher<{ event: LogoutEvent; traceparent: string }, null>({
    batchSize: EVENTS_MAX,
    queueMax: 20_000,
    async run(items) {
      await eventLog.append(items.map(({ event, traceparent }) => encodeLogoutEvent(event, traceparent)))
      return items.map(() => null)
    },
  })

  /** What an element comes to before the append. `inRequest`: the contents of the elements before it. */
  function examine(
    value: unknown,
    prefix: string,
    { inRequest, reach }: { inRequest: Map<string, string>; reach: Reach },
  ): Element {
    const invalid = (faults: readonly Fault[]) => ({
      problem: new ProblemError({
        status: 400,
        title: 'Invalid logout event',
        detail: 'The event was not accepted. Mend what errors names and post it again.',
        errors: faults.map(({ pointer, detail }) => ({ pointer: prefix + pointer, detail })),
      }),
    })
    const faults = check(value)
    if (faults.length > 0) return invalid(faults)
    const event = acceptEvent(value as LogoutEventInput, { now: now(), newId: newEventId })
    if (!('id' in event)) return invalid(event)
    if (reach.kind !== 'everything' && event.iss !== reach.iss) {
      return {
        problem: new ProblemError({
          status: 403,
          title: 'Not your issuer',
          detail: `This credential is bound to ${reach.iss}. The event was not accepted.`,
          errors: [
            { pointer: `${prefix}/iss`, detail: 'is not the issuer that this credential is bound to' },
          ],
        }),
      }
    }
    const content = createHash('sha256').update(sameContent(event)).digest('base64url')
    const known = inRequest.get(event.id) ?? recent.find(event.id)
    if (known !== undefined && known !== content) {
      return {
        problem: new ProblemError({
          status: 409,
          title: 'Id in use',
          detail: `An event with id ${event.id} was accepted with another content. Give a new event a new id.`,
          errors: [{ pointer: `${prefix}/id`, detail: 'is the id of another event' }],
        }),
      }
    }
    inRequest.set(event.id, content)
    return { event, content }
  }

  async function append(elements: readonly Element[], traceparent: string): Promise<void> {
    const events = elements.flatMap((element) => ('event' in element ? [element] : []))
    try {
      await appends.addAll(events.map(({ event }) => ({ event, traceparent })))
    } catch (error) {
      if (!(error instanceof EventLogUnavailableError || error instanceof QueueFullError)) throw error
      throw new ProblemError(
        {
          status: 503,
          title: 'Event log not available',
          detail:
            'The logout could not be made durable and was not accepted. Post it again, with the same id.',
          headers: { 'retry-after': String(RETRY_AFTER_S) },
        },
        { cause: error },
      )
    }
    for (const { event, content } of events) recent.add(event.id, content)
  }

  const accepted = (id: string) => ({
    id,
    status: 'accepted' as const,
    links: { self: eventPath(id), receipt: `${eventPath(id)}/receipt` },
  })

  server.post(
    '/v1/logout-events',
    {
      config: { scope: 'events:write', reach: 'handler' } satisfies RouteAccess<Scope>,
      // Elements are checked one by one in the handler, by the same schema: one bad element must not cost the others.
      validatorCompiler: () => () => true,
      schema: {
        summary: 'Post a logout event, or an array of up to 1,000.',
        body: Type.Union([
          LogoutEventInput,
          Type.Array(LogoutEventInput, { minItems: 1, maxItems: EVENTS_MAX }),
        ]),
        response: {
          202: Type.Union([AcceptedOrRejected, Type.Array(AcceptedOrRejected)]),
          207: Type.Array(AcceptedOrRejected),
        },
      },
    },
    async (request, reply) => {
      const body: unknown = request.body
      const traceparent = traceparentOf(request)
      const { reach } = callerOf(request)
      if (reach.kind === 'clients') {
        throw new ProblemError({
          status: 403,
          detail: 'Logouts are an issuer’s to assert; this credential is bound to clients of one.',
        })
      }
      if (!Array.isArray(body)) {
        const element = examine(body, '', { inRequest: new Map(), reach })
        if ('problem' in element) throw element.problem
        await append([element], traceparent)
        return reply.code(202).send(accepted(element.event.id))
      }
      if (body.length === 0 || body.length > EVENTS_MAX) {
        throw new ProblemError({
          status: 400,
          title: 'Invalid array',
          detail: `An array must have 1 to ${EVENTS_MAX} events; this one has ${body.length}.`,
          errors: [{ pointer: '', detail: `must have 1 to ${EVENTS_MAX} items` }],
        })
      }
      const inRequest = new Map<string, string>()
      const elements = body.map((value: unknown, index) => examine(value, `/${index}`, { inRequest, reach }))
      const problems = elements.flatMap((element) => ('problem' in element ? [element.problem] : []))
      if (problems.length === elements.length) throw allRejected(problems)
      await append(elements, traceparent)
      return reply
        .code(problems.length > 0 ? 207 : 202)
        .send(
          elements.map((element) =>
            'event' in element
              ? accepted(element.event.id)
              : { status: 'rejected' as const, problem: problemOf(element.problem, request) as Problem },
          ),
        )
    },
  )
}

/** One answer for all, with the status of each where that is the same. */
function allRejected(problems: readonly ProblemError[]): ProblemError {
  const statuses = new Set(problems.map(({ problem }) => problem.status))
  return new ProblemError({
    status: statuses.size === 1 ? (problems[0]?.problem.status ?? 400) : 400,
    title: 'Invalid logout events',
    detail: 'None of the events was accepted. Mend what errors names and post them again.',
    errors: problems.flatMap(({ problem }) => problem.errors ?? []).slice(0, 50),
  })
}
