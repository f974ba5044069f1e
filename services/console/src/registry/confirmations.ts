import {
  Confirmation,
  ConfirmationsQuery,
  eventPath,
  page,
  RelyingParty,
  RotateSecretInput,
  type Scope,
} from '@curfew/contract'
import type { ClientId } from '@curfew/domain'
import {
  type ConfirmationRecord,
  type Database,
  findRelyingParty,
  listConfirmations,
  putRelyingParties,
  type RelyingPartyRecord,
} from '@curfew/ledger'
import { callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import type { Pages } from '../http/pages.ts'
import { etagOf } from '../http/preconditions.ts'
import { invalid } from '../http/query.ts'
import { secretFaults } from '../http/signing-secrets.ts'
import { rotated } from './confirmation-secrets.ts'
import { partyChange, partyView } from './party-view.ts'
import type { RegistrationDeps } from './registration.ts'
import { invalidParty, keptChanging, noSuchParty, PartyParams, TRIES_MAX } from './relying-parties.ts'

const READ = { scope: 'clients:read', access: 'path' } satisfies RouteAccess<Scope>
const WRITE = { scope: 'clients:write', access: 'path' } satisfies RouteAccess<Scope>
const PATH = '/v1/issuers/:issuer/relying-parties/:client_id/confirmations'

export interface ConfirmationsDeps extends Pick<RegistrationDeps, 'clientKeys' | 'newSecret' | 'relay'> {
  readonly pages: Pages
  readonly db: Database
  /** The database for the list. */
  readonly reads: Database
  readonly now: () => Date
}

/** `/v1/issuers/{issuer}/relying-parties/{client_id}/confirmations`: the confirmations of the logouts that a client started. */
export function registerConfirmations(server: HttpServer, deps: ConfirmationsDeps): void {
  const { pages, db, reads } = deps
  server.get(
    PATH,
    {
      config: READ,
      schema: {
        operationId: 'listConfirmations',
        tags: ['Relying parties'],
        summary: 'List the confirmations of the logouts that a client started, the latest first.',
        params: PartyParams,
        querystring: ConfirmationsQuery,
        response: { 200: page(Confirmation) },
      },
    },
    async (request) => {
      const { issuer, client_id: clientId } = request.params
      const { limit, cursor, state } = request.query
      const { readCursor, pageOf } = pages(request)
      const before = readCursor(cursor)
      if (before !== null && !/^\d{1,15}$/.test(before))
        throw invalid('/cursor', 'is not a cursor of this list')
      if ((await findRelyingParty(db, { issuer, clientId })) === null) throw noSuchParty(request.params)
      const { rows, reached } = await listConfirmations(reads, {
        ...{ issuer, clientId, state: state ?? null, limit: limit + 1 },
        before: before === null ? null : Number(before),
      })
      return pageOf(
        rows,
        limit,
        ({ position }) => String(position),
        (row) => confirmationView(row, issuer),
        reached === null ? null : String(reached),
      )
    },
  )

  server.post(
    `${PATH}/rotate-secret`,
    {
      config: WRITE,
      schema: {
        operationId: 'rotateConfirmationSecret',
        tags: ['Relying parties'],
        summary:
          'Change the secret that signs the confirmations of a client. The previous secret signs too for 24 hours.',
        params: PartyParams,
        body: RotateSecretInput,
        response: { 200: RelyingParty },
      },
    },
    async (request, reply) => {
      const { secret = deps.newSecret() } = request.body
      const faults = secretFaults(secret, '/secret')
      if (faults.length > 0) throw invalidParty(faults)
      const party = await rotate(deps, { ...request.params, secret, by: callerOf(request).name })
      return reply.header('etag', etagOf(party)).send(partyView(party, deps.relay, { newSecret: secret }))
    },
  )
}

/** Stores a new secret, and keeps the present one for the overlap. Tries again if another change of the client came first. */
async function rotate(
  { db, clientKeys, relay, now }: ConfirmationsDeps,
  { secret, by, ...params }: { issuer: string; client_id: string; secret: string; by: string },
): Promise<RelyingPartyRecord> {
  const clientId = params.client_id as ClientId
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const before = await findRelyingParty(db, { issuer: params.issuer, clientId })
    if (before === null) throw noSuchParty(params)
    const { revision, createdAt: _, updatedAt: __, ...draft } = before
    const { confirmation } = before.settings
    if (confirmation === undefined) throw noConfirmations(params)
    const sealed = await clientKeys.seal(secret, before)
    const settings = { ...before.settings, confirmation: rotated(confirmation, sealed, now()) }
    const result = await putRelyingParties(db, {
      issuer: before.issuer,
      drafts: [{ ...draft, settings }],
      expected: new Map([[clientId, revision]]),
      audit: (was, is) => ({
        ...partyChange(by, relay)(was, is),
        action: 'relying_party.confirmation_secret_rotated',
      }),
    })
    const party = result.ok ? result.parties.get(clientId) : undefined
    if (party !== undefined) return party
  }
  throw keptChanging()
}

function noConfirmations({ issuer, client_id }: { issuer: string; client_id: string }): ProblemError {
  return new ProblemError({
    status: 409,
    title: 'No confirmation URI',
    detail: `${client_id} at ${issuer} has no curfew.confirmation_uri, so no secret signs for it. Register the URI: the answer has the secret.`,
  })
}

function confirmationView(record: ConfirmationRecord, issuer: string): Confirmation {
  return {
    id: record.id,
    event_id: record.givenEventId,
    state: record.state,
    complete: record.complete,
    attempts: record.attempts,
    created_at: record.createdAt.toISOString(),
    deadline_at: record.deadlineAt.toISOString(),
    attempted_at: record.attemptedAt?.toISOString() ?? null,
    due_at: record.dueAt?.toISOString() ?? null,
    settled_at: record.settledAt?.toISOString() ?? null,
    status: record.status,
    error: record.error,
    links: { event: eventPath({ givenId: record.givenEventId, issuer }) },
  }
}
