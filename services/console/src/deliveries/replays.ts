import { Replay, ReplayInput, ReplayPreview, type Scope } from '@curfew/contract'
import { admitsAll } from '@curfew/domain'
import {
  cancelReplay,
  createReplay,
  type Database,
  type DeadLetterGroup,
  findReplay,
  type ReplayProgress,
  summarizeDeadLetters,
  toFilterJson,
} from '@curfew/ledger'
import { type Credential, callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import { invalid, UUID } from '../http/query.ts'
import { readFilter } from './filter.ts'

const READ = { scope: 'deadletters:read', access: 'handler' } satisfies RouteAccess<Scope>
const REPLAY = { scope: 'deadletters:replay', access: 'handler' } satisfies RouteAccess<Scope>
const ReplayParams = Type.Object({ id: Type.String({ maxLength: 64 }) })
/** Greatest number of groups that a dry run lists. */
const GROUPS_MAX = 1_000

/**
 * Replays of dead letters. A dry run shows beforehand which dead letters a replay includes, and the replay shows its progress.
 */
export function registerReplays(
  server: HttpServer,
  { db, reads, newReplayId }: { db: Database; reads: Database; newReplayId: () => string },
): void {
  /** The replay in the path, if the caller may see all its dead letters. @throws a 404 problem otherwise. */
  async function ownReplay(request: {
    readonly params: { readonly id: string }
    readonly credential: Credential | null
  }): Promise<ReplayProgress> {
    const { id } = request.params
    const job = UUID.test(id) ? await findReplay(reads, id) : null
    if (job === null || !admitsAll(callerOf(request).access, job.filter)) throw noSuchReplay(id)
    return job
  }

  server.post(
    '/v1/dead-letters/replay',
    {
      // Both a dry run and a replay count all matching dead letters, so the request counts as a read.
      config: { ...REPLAY, load: 'read' },
      schema: {
        operationId: 'replayDeadLetters',
        tags: ['Dead letters'],
        summary: 'Replay dead letters. With dry_run, only report which dead letters a replay would include.',
        body: ReplayInput,
        response: { 200: ReplayPreview, 202: Replay },
      },
    },
    async (request, reply) => {
      const { filter: given, include_lapsed: includeLapsed = false, dry_run = false } = request.body
      const { name: requestedBy, access } = callerOf(request)
      const filter = readFilter(given, access, 'body')
      if (filter.from !== null && filter.to !== null && filter.from >= filter.to)
        throw invalid('/filter/to', 'must be after from', 'body')
      if (dry_run)
        return reply.code(200).send(previewOf(await summarizeDeadLetters(reads, filter), includeLapsed))
      const job = await createReplay(db, {
        id: newReplayId(),
        filter,
        includeLapsed,
        requestedBy,
      })
      const view = replayView(job)
      return reply.code(202).header('location', view.links.self).send(view)
    },
  )

  server.get(
    '/v1/replays/:id',
    {
      config: READ,
      schema: {
        operationId: 'getReplay',
        tags: ['Dead letters'],
        summary: 'Get a replay with its progress.',
        params: ReplayParams,
        response: { 200: Replay },
      },
    },
    async (request) => replayView(await ownReplay(request)),
  )

  server.delete(
    '/v1/replays/:id',
    {
      config: REPLAY,
      schema: {
        operationId: 'cancelReplay',
        tags: ['Dead letters'],
        summary:
          'Cancel a replay, so that no more dead letters are replayed. A replay that has ended is unchanged.',
        params: ReplayParams,
        response: { 200: Replay },
      },
    },
    async (request) => {
      const { id } = await ownReplay(request)
      const cancelled = await cancelReplay(db, { id, cancelledBy: callerOf(request).name })
      if (cancelled === null) throw noSuchReplay(id)
      return replayView(cancelled)
    },
  )
}

function noSuchReplay(id: string): ProblemError {
  return new ProblemError({ status: 404, title: 'No such replay', detail: `No replay has the id ${id}.` })
}

function previewOf(groups: readonly DeadLetterGroup[], includeLapsed: boolean): ReplayPreview {
  const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0)
  const count = sum(groups.map((group) => group.count))
  const lapsed = sum(groups.map((group) => group.lapsed))
  const oldest = Math.min(...groups.map((group) => group.oldest.getTime()))
  const newest = Math.max(...groups.map((group) => group.newest.getTime()))
  return {
    dry_run: true,
    total: includeLapsed ? count : count - lapsed,
    lapsed,
    oldest: groups.length === 0 ? null : new Date(oldest).toISOString(),
    newest: groups.length === 0 ? null : new Date(newest).toISOString(),
    groups: groups.slice(0, GROUPS_MAX).map((group) => ({
      issuer: group.issuer,
      client_id: group.clientId,
      client_name: group.clientName,
      reason: group.reason,
      count: group.count,
      lapsed: group.lapsed,
      oldest: group.oldest.toISOString(),
      newest: group.newest.toISOString(),
    })),
    groups_left_out: Math.max(0, groups.length - GROUPS_MAX),
  }
}

function replayView(job: ReplayProgress): Replay {
  return {
    id: job.id,
    state: job.state,
    failure: job.failure,
    filter: toFilterJson(job.filter) as Replay['filter'],
    include_lapsed: job.includeLapsed,
    requested_by: job.requestedBy,
    requested_at: job.requestedAt.toISOString(),
    ended_at: job.endedAt?.toISOString() ?? null,
    total: job.total,
    done: job.done,
    refused: job.refused,
    waiting: job.waiting,
    acknowledged: job.acknowledged,
    superseded: job.superseded,
    lapsed: job.lapsed,
    dead: job.dead,
    links: { self: `/v1/replays/${job.id}` },
  }
}
