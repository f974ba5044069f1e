import { AuditSetup, AuditSetupInput, type Scope } from '@curfew/contract'
import {
  AUDIT_TIMEOUT_S,
  AuditSecretError,
  type AuditSecrets,
  type AuditSettings,
  type ClientId,
  type Issuer,
  type NetworkAccess,
  networkAccess,
} from '@curfew/domain'
import {
  type AuditSetupRecord,
  type Database,
  deleteAuditSetup,
  findAuditSetup,
  findRelyingParty,
  putAuditSetup,
} from '@curfew/ledger'
import {
  type Credential,
  callerOf,
  type HttpServer,
  hasScope,
  ProblemError,
  type RouteAccess,
} from '@curfew/runtime'
import type { AuditSecretSealer } from '@curfew/tokens'
import { Type } from 'typebox'
import { issuerOr404 } from '../registry/issuers.ts'
import { networksOf } from '../registry/networks.ts'
import { noSuchParty, PartyParams } from '../registry/relying-parties.ts'
import { noSetup } from './no-setup.ts'
import { keepsSecrets, setupFaults } from './setup-faults.ts'

const READ = { scope: 'clients:read', access: 'path' } satisfies RouteAccess<Scope>
const WRITE = { scope: 'clients:write', access: 'path' } satisfies RouteAccess<Scope>
const PATH = '/v1/issuers/:issuer/relying-parties/:client_id/audit'

export interface AuditSetupsDeps {
  readonly db: Database
  readonly auditSecrets: AuditSecretSealer
  /** The fault of a URL, in words; null if there is none. */
  readonly targetFault: (uri: string, access: NetworkAccess) => string | null
}

/** `/v1/issuers/{issuer}/relying-parties/{client_id}/audit`: how to make and check a session of a test user, and when. */
export function registerAuditSetups(server: HttpServer, deps: AuditSetupsDeps): void {
  const { db } = deps
  server.put(
    PATH,
    {
      config: WRITE,
      schema: {
        operationId: 'putAuditSetup',
        tags: ['Audits'],
        summary:
          'Set up the logout audits of a relying party, or change their set-up. Needs the scope events:write too, because each audit logs its test user out.',
        params: PartyParams,
        body: AuditSetupInput,
        response: { 200: AuditSetup },
      },
    },
    async (request) => {
      const caller = callerOf(request)
      mayLogOut(caller)
      const { issuer: name, client_id: clientId } = request.params
      const issuer = await issuerOr404(db, name)
      const party = await findRelyingParty(db, { issuer: name, clientId })
      if (party === null) throw noSuchParty(request.params)
      const before = await findAuditSetup(db, { issuer: name, clientId })
      const access = networkAccess(
        { chosen: party.settings.allowed_networks, rule: party.networkRule },
        networksOf(issuer),
      )
      checkInput(request.body, { iss: issuer.iss, before, access }, deps)
      const owner = { issuer: issuer.name, clientId: clientId as ClientId }
      const settings = settingsOf(request.body)
      const stored = await putAuditSetup(
        db,
        {
          ...owner,
          settings,
          sealedSecrets: await sealedSecretsOf(request.body, { before, owner }, deps),
          everyS: request.body.every_s ?? null,
        },
        {
          credential: caller.name,
          action: 'relying_party.audit_set_up',
          object: pathOf(owner),
          detail: auditDetail(settings, request.body.every_s),
        },
      )
      if (stored === null) throw noSuchParty(request.params)
      return setupView(stored, deps)
    },
  )

  server.get(
    PATH,
    {
      config: READ,
      schema: {
        operationId: 'getAuditSetup',
        tags: ['Audits'],
        summary: 'Get the set-up of the logout audits of a relying party, without its secrets.',
        params: PartyParams,
        response: { 200: AuditSetup },
      },
    },
    async (request) => {
      const { issuer, client_id: clientId } = request.params
      const setup = await findAuditSetup(db, { issuer, clientId })
      if (setup === null) throw await noSetup(db, { issuer, client: clientId })
      return setupView(setup, deps)
    },
  )

  server.delete(
    PATH,
    {
      config: WRITE,
      schema: {
        operationId: 'deleteAuditSetup',
        tags: ['Audits'],
        summary: 'Delete the set-up of the logout audits of a relying party, with its secrets.',
        params: PartyParams,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      const { issuer, client_id: clientId } = request.params
      const deleted = await deleteAuditSetup(
        db,
        { issuer, clientId },
        {
          credential: callerOf(request).name,
          action: 'relying_party.audit_removed',
          object: pathOf({ issuer, clientId }),
          detail: {},
        },
      )
      if (!deleted) throw await noSetup(db, { issuer, client: clientId })
      return reply.code(204).send(null)
    },
  )
}

/** Refuses a set-up to a credential that may not log users out. @throws a 403 problem. */
function mayLogOut(caller: Credential): void {
  if (hasScope(caller, 'events:write')) return
  throw new ProblemError({
    status: 403,
    detail: 'An audit logs the user of its login out. To set it up needs the scope events:write too.',
    headers: { 'www-authenticate': 'Bearer error="insufficient_scope", scope="events:write"' },
  })
}

/** @throws a 400 problem with all faults. */
function checkInput(
  input: AuditSetupInput,
  {
    iss,
    before,
    access,
  }: { readonly iss: Issuer; readonly before: AuditSetupRecord | null; readonly access: NetworkAccess },
  { targetFault }: Pick<AuditSetupsDeps, 'targetFault'>,
): void {
  const errors = setupFaults(input, {
    iss,
    before: before?.settings ?? null,
    targetFault: (uri) => targetFault(uri, access),
  })
  if (errors.length === 0) return
  throw new ProblemError({
    status: 400,
    title: 'Invalid audit set-up',
    detail: 'Nothing was changed. Correct the faults in errors and send the request again.',
    errors,
  })
}

/** The members without secrets, as they are stored. */
function settingsOf({ login, check, refresh, timeout_s }: AuditSetupInput): AuditSettings {
  return {
    login: loginOf(login),
    check,
    ...(refresh !== undefined && { refresh }),
    timeout_s: timeout_s ?? AUDIT_TIMEOUT_S.default,
  }
}

function loginOf(login: AuditSetupInput['login']): AuditSettings['login'] {
  if (login.kind === 'http') return { kind: login.kind, url: login.url, method: login.method }
  const { password: _, ...settings } = login
  return settings
}

function secretsIn(login: AuditSetupInput['login']): AuditSecrets {
  if (login.kind === 'oidc') return login.password === undefined ? {} : { password: login.password }
  const { headers, body } = login
  return { ...(headers !== undefined && { headers }), ...(body !== undefined && { body }) }
}

/** The secrets to store: the given ones, and the stored ones if they still go to the same places. Null if there are none. */
async function sealedSecretsOf(
  input: AuditSetupInput,
  {
    before,
    owner,
  }: { readonly before: AuditSetupRecord | null; readonly owner: Parameters<AuditSecretSealer['seal']>[1] },
  { auditSecrets }: Pick<AuditSetupsDeps, 'auditSecrets'>,
): Promise<string | null> {
  const given = secretsIn(input.login)
  const kept = before !== null && keepsSecrets(before.settings, input) ? before.sealedSecrets : null
  if (Object.keys(given).length === 0) return kept
  const known = kept === null ? {} : await opened(kept, owner, auditSecrets)
  return auditSecrets.seal({ ...known, ...given }, owner)
}

/** The stored secrets. Those that cannot be opened are replaced. */
async function opened(
  sealed: string,
  owner: Parameters<AuditSecretSealer['seal']>[1],
  { open }: AuditSecretSealer,
): Promise<AuditSecrets> {
  try {
    return await open(sealed, owner)
  } catch (error) {
    if (!(error instanceof AuditSecretError)) throw error
    return {}
  }
}

/** The set-up for the audit log. Of a URL it has the origin only, because path and query may contain a secret. */
function auditDetail(
  { login, check, refresh, timeout_s }: AuditSettings,
  everyS: number | undefined,
): Readonly<Record<string, unknown>> {
  const origin = (url: string) => new URL(url).origin
  return {
    login: { kind: login.kind, origin: origin(login.kind === 'http' ? login.url : login.start_url) },
    check: origin(check.url),
    refresh: refresh === undefined ? null : origin(refresh.url),
    every_s: everyS ?? null,
    timeout_s,
  }
}

function pathOf({ issuer, clientId }: { issuer: string; clientId: string }): string {
  return `/v1/issuers/${issuer}/relying-parties/${encodeURIComponent(clientId)}/audit`
}

async function setupView(
  setup: AuditSetupRecord,
  { auditSecrets }: Pick<AuditSetupsDeps, 'auditSecrets'>,
): Promise<AuditSetup> {
  const { issuer, clientId, settings, sealedSecrets } = setup
  const secrets = sealedSecrets === null ? {} : await opened(sealedSecrets, setup, auditSecrets)
  const query = new URLSearchParams({ issuer, client_id: clientId })
  return {
    issuer,
    client_id: clientId,
    login: settings.login as AuditSetup['login'],
    secrets: Object.keys(secrets),
    check: settings.check as AuditSetup['check'],
    ...(settings.refresh !== undefined && { refresh: settings.refresh }),
    every_s: setup.everyS,
    timeout_s: settings.timeout_s,
    next_due_at: setup.nextDueAt?.toISOString() ?? null,
    last_result: setup.lastResult,
    last_concluded_at: setup.lastConcludedAt?.toISOString() ?? null,
    created_at: setup.createdAt.toISOString(),
    updated_at: setup.updatedAt.toISOString(),
    links: { self: pathOf(setup), audits: `/v1/audits?${query}` },
  }
}
