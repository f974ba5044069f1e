import { PageQuery, page, RelyingParty, RelyingPartyPatch, Removed, type Scope } from '@curfew/contract'
import {
  type ClientId,
  conditionsOf,
  type IssuerName,
  mergePatch,
  ruleAfterRemoval,
  type TokenAlgorithm,
} from '@curfew/domain'
import {
  countWaiting,
  type Database,
  findNetworkRulesLeft,
  findRelyingParty,
  listRelyingParties,
  putRelyingParties,
  type RelyingPartyRecord,
  removeRelyingParty,
} from '@curfew/ledger'
import {
  type Credential,
  callerOf,
  type Fault,
  type HttpServer,
  ProblemError,
  type RouteAccess,
} from '@curfew/runtime'
import { Type } from 'typebox'
import { exportOf, NDJSON } from '../http/export.ts'
import type { Pages } from '../http/pages.ts'
import {
  etagOf,
  isKnown,
  mayChange,
  NO_BODY,
  type Preconditions,
  preconditionFailed,
} from '../http/preconditions.ts'
import { metadataNotices, type Notice, noticeView } from '../imports/notices.ts'
import { IssuerParams, issuerOr404, namesOnlySubjects } from './issuers.ts'
import { networkRank } from './networks.ts'
import { documentOf, partyChange, partyView, type ShownOnce } from './party-view.ts'
import {
  bodyFaults,
  draftOf,
  keyFaults,
  type ReadRegistration,
  type Registration,
  RegistrationBody,
  type RegistrationDeps,
  readRegistration,
  requiresSession,
  signaturesOf,
} from './registration.ts'
import { isUnreadable } from './relay.ts'

const READ = { scope: 'clients:read', access: 'path' } satisfies RouteAccess<Scope>
const WRITE = { scope: 'clients:write', access: 'path' } satisfies RouteAccess<Scope>
const PATCH = {
  ...WRITE,
  accepts: ['application/merge-patch+json', 'application/json'],
} satisfies RouteAccess<Scope>
const LIST = { scope: 'clients:read', access: 'handler' } satisfies RouteAccess<Scope>
const PATH = '/v1/issuers/:issuer/relying-parties/:client_id'
/** Number of tries of a change when other changes come first. Each time one of the others has succeeded. */
export const TRIES_MAX = 100

export const PartyParams = Type.Object({
  ...IssuerParams.properties,
  client_id: Type.String({ minLength: 1, maxLength: 255, pattern: '^[\\x20-\\x7e]+$' }),
})

export interface RelyingPartiesDeps extends RegistrationDeps {
  readonly db: Database
  /** Whether the issuer has a key for an algorithm, or Curfew may make one. */
  hasKey(issuer: IssuerName, algorithm: TokenAlgorithm): Promise<boolean>
}

/** `/v1/issuers/{issuer}/relying-parties`: the relying parties that are notified when a session of the issuer ends. */
export function registerRelyingParties(
  server: HttpServer,
  deps: RelyingPartiesDeps & { readonly pages: Pages },
): void {
  const { db } = deps
  server.put(
    PATH,
    {
      config: WRITE,
      schema: {
        operationId: 'putRelyingParty',
        tags: ['Relying parties'],
        summary:
          'Register a relying party, or replace its registration. The body is its OIDC client metadata, with settings in curfew.',
        params: PartyParams,
        body: RegistrationBody,
        response: { 200: RelyingParty, 201: RelyingParty },
      },
    },
    async (request, reply) => {
      const { created, party, ...shown } = await changeParty(deps, request, () => ({
        body: request.body as Registration['body'],
        namesNetworks: true,
        enableAgain: () => true,
      }))
      return reply
        .code(created ? 201 : 200)
        .header('etag', etagOf(party))
        .send(partyView(party, deps.relay, shown))
    },
  )

  server.patch(
    PATH,
    {
      config: PATCH,
      schema: {
        operationId: 'patchRelyingParty',
        tags: ['Relying parties'],
        summary: 'Change parts of a registration with a JSON Merge Patch (RFC 7396).',
        params: PartyParams,
        body: RelyingPartyPatch,
        response: { 200: RelyingParty },
      },
    },
    async (request, reply) => {
      const {
        created: _,
        party,
        ...shown
      } = await changeParty(deps, request, (before) => {
        if (before === null) throw noSuchParty(request.params)
        const body = mergePatch(documentOf(before), request.body)
        const faults = bodyFaults(body)
        if (faults.length > 0) throw invalidParty(faults)
        return {
          body: body as Registration['body'],
          namesNetworks:
            request.body.curfew === null || Object.hasOwn(Object(request.body.curfew), 'allowed_networks'),
          enableAgain: (kind) => enables(request.body.curfew, kind),
        }
      })
      return reply.header('etag', etagOf(party)).send(partyView(party, deps.relay, shown))
    },
  )

  server.get(
    PATH,
    {
      config: READ,
      schema: {
        operationId: 'getRelyingParty',
        tags: ['Relying parties'],
        summary: 'Get a relying party.',
        params: PartyParams,
        response: { 200: RelyingParty },
      },
    },
    async (request, reply) => {
      const { issuer, client_id: clientId } = request.params
      const party = await findRelyingParty(db, { issuer, clientId })
      if (party === null) throw noSuchParty(request.params)
      reply.header('etag', etagOf(party))
      if (isKnown(request.headers, party)) return reply.code(304 as 200).send(NO_BODY)
      return partyView(party, deps.relay)
    },
  )

  server.delete(
    PATH,
    {
      config: WRITE,
      schema: {
        operationId: 'deleteRelyingParty',
        tags: ['Relying parties'],
        summary: 'Remove a relying party, so that it gets no new deliveries. Its history stays.',
        params: PartyParams,
        response: { 200: Removed },
      },
    },
    async (request) => {
      const { issuer, client_id: clientId } = request.params
      let before: RelyingPartyRecord | null = null
      const result = await removeRelyingParty(
        db,
        { issuer, clientId },
        {
          expected(found) {
            before = found
            return found === null || mayChange(request.headers, found)
          },
          ruleLeft: (rule) =>
            ruleAfterRemoval(rule, { rank: networkRank(callerOf(request)), ceiling: deps.ceiling }),
          audit: partyChange(callerOf(request).name, deps.relay),
        },
      )
      if (result.ok) return { client_id: clientId, issuer, waiting: result.waiting }
      throw result.conflict === 'none'
        ? noSuchParty(request.params)
        : preconditionFailed(request.headers, before)
    },
  )

  server.get(
    '/v1/issuers/:issuer/relying-parties',
    {
      config: LIST,
      schema: {
        operationId: 'listRelyingParties',
        tags: ['Relying parties'],
        summary: `List the relying parties of an issuer. With Accept: ${NDJSON} export all of them, one line for each, in the format of the import.`,
        params: IssuerParams,
        querystring: PageQuery,
        response: { 200: page(RelyingParty) },
      },
    },
    async (request, reply) => {
      const { access } = callerOf(request)
      const conditions = conditionsOf(access)
      // The answer is the same whether the issuer exists or not.
      if (conditions.issuer !== null && conditions.issuer !== request.params.issuer)
        throw new ProblemError({
          status: 404,
          detail: 'There is nothing here that this credential may see.',
        })
      const { name } = await issuerOr404(db, request.params.issuer)
      if (request.headers.accept?.includes(NDJSON) === true) {
        return reply.type(NDJSON).send(exportOf(db, { issuer: name, only: conditions.clientIds }) as never)
      }
      const { limit, cursor } = request.query
      const { readCursor, pageOf } = deps.pages(request)
      const parties = await listRelyingParties(db, {
        issuer: name,
        after: readCursor(cursor) ?? '',
        limit: limit + 1,
        only: conditions.clientIds,
      })
      return pageOf(
        parties,
        limit,
        ({ clientId }) => clientId,
        (party) => partyView(party, deps.relay),
      )
    },
  )
}

/** A request to change one relying party. */
export interface ChangeRequest {
  readonly params: { readonly issuer: string; readonly client_id: string }
  readonly headers: Preconditions
  readonly credential: Credential | null
}

/**
 * Changes a relying party. If another change is written between reading and writing, it reads the new state and tries again. So
 * concurrent changes do not undo each other, with or without If-Match.
 *
 * @param next makes the new registration from the present one.
 * @throws a 400, 404 or 412 problem.
 */
export async function changeParty(
  deps: RelyingPartiesDeps,
  request: ChangeRequest,
  next: (
    before: RelyingPartyRecord | null,
  ) => Pick<Registration, 'body' | 'enableAgain'> & { readonly namesNetworks: boolean },
): Promise<{ created: boolean; party: RelyingPartyRecord } & ShownOnce> {
  const { db } = deps
  const caller = callerOf(request)
  const clientId = request.params.client_id as ClientId
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const issuer = await issuerOr404(db, request.params.issuer)
    const before = await findRelyingParty(db, { issuer: issuer.name, clientId })
    if (!mayChange(request.headers, before)) throw preconditionFailed(request.headers, before)
    const { namesNetworks: named, ...asked } = next(before)
    const left =
      before === null ? await findNetworkRulesLeft(db, { issuer: issuer.name, clientIds: [clientId] }) : null
    const rule = before?.networkRule ?? left?.get(clientId) ?? null
    const networks = { rank: networkRank(caller), rule, named }
    const registration: Registration = { issuer, clientId, before, networks, showsSecrets: true, ...asked }
    const read = readRegistration(registration, deps)
    if (read.faults.length > 0) throw invalidParty(read.faults)
    const { signs, newSecret, ...draft } = await draftOf(read, deps)
    // An import registers clients without a key. Other changes of such a client need none.
    const added = signs.filter(({ algorithm }) => !signsWith(before, algorithm))
    const unsigned = (await keyFaults([{ ...draft, signs: added }], deps)).get(clientId)
    if (unsigned !== undefined) throw invalidParty([unsigned])
    const result = await putRelyingParties(db, {
      issuer: issuer.name,
      issuerRevision: issuer.revision,
      drafts: [draft],
      expected: new Map([[clientId, before?.revision ?? null]]),
      audit: partyChange(caller.name, deps.relay),
      quota: deps.relyingPartiesMax,
    })
    if (result.ok) {
      const party = result.parties.get(clientId)
      if (party === undefined) throw new Error(`nothing was registered as ${clientId}`)
      const waiting = await countWaiting(db, { issuer: issuer.name, clientId })
      const notices = await noticesOf(deps, read)
      return { created: result.outcomes[0] === 'created', party, waiting, notices, newSecret }
    }
    if (result.conflict === 'quota') throw overQuota(issuer.name, result)
  }
  throw keptChanging()
}

/** The notices about one registration, as an import has them. */
async function noticesOf(
  { db, hasKey }: Pick<RelyingPartiesDeps, 'db' | 'hasKey'>,
  read: ReadRegistration,
): Promise<NonNullable<ShownOnce['notices']>> {
  const { issuer, clientId } = read
  const unsigned: Notice[] = []
  for (const { algorithm } of signaturesOf(read))
    if (!(await hasKey(issuer.name, algorithm))) unsigned.push({ code: 'no_signing_key', why: algorithm })
  const unnamed = requiresSession(read) && (await namesOnlySubjects(db, issuer))
  const notices: readonly Notice[] = [
    ...(isUnreadable(read) ? [{ code: 'relay_unreadable' as const }] : []),
    ...metadataNotices(read),
    ...unsigned,
    ...(unnamed ? [{ code: 'session_required' as const }] : []),
  ]
  return notices.map((notice) => noticeView(notice, { issuer: issuer.name, clients: clientId }))
}

/** Whether a registered client has an endpoint whose messages are signed with an algorithm. */
function signsWith(party: RelyingPartyRecord | null, algorithm: TokenAlgorithm): boolean {
  return party?.endpoints.some(({ settings }) => Reflect.get(settings, 'algorithm') === algorithm) ?? false
}

/** The problem for a change that other changes kept preceding. */
export function keptChanging(): ProblemError {
  return new ProblemError({
    status: 503,
    detail:
      'Other requests kept changing this relying party. Nothing was changed by this one. Send the request again in a moment.',
    headers: { 'retry-after': '1' },
  })
}

/** Whether a patch of `curfew` enables a channel, alone or with all others. */
function enables(patch: unknown, kind: string): boolean {
  const { enabled, channels } = Object(patch)
  return enabled === true || Object(Object(channels)[kind]).enabled === true
}

/** The problem for a registration beyond the quota of its issuer. */
export function overQuota(
  issuer: string,
  { registered, created, quota }: { registered: number; created: number; quota: number },
): ProblemError {
  return new ProblemError({
    status: 429,
    title: 'Quota of relying parties',
    detail: `${issuer} may have ${quota} relying parties and has ${registered}. This request would register ${created} more. Nothing was changed. Remove some, or have quotas.relying_parties of the issuer raised.`,
    extensions: { quota: 'relying_parties', quota_max: quota, quota_used: registered },
  })
}

export function invalidParty(errors: readonly Fault[]): ProblemError {
  return new ProblemError({
    status: 400,
    title: 'Invalid relying party',
    detail: 'Nothing was changed. Correct the faults in errors and send the request again.',
    errors,
  })
}

export function noSuchParty({ issuer, client_id }: ChangeRequest['params']): ProblemError {
  return new ProblemError({
    status: 404,
    title: 'No such relying party',
    detail: `No relying party ${client_id} is registered at ${issuer}.`,
  })
}
