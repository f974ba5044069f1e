import type {
  Accepted,
  AcceptedOrRejected,
  AddedKey,
  ApiKey,
  ApiKeyInput,
  Audit,
  AuditSetup,
  AuditSetupInput,
  Audits,
  AuditsInput,
  Confirmation,
  DeadLetter,
  DeadLetterFilterInput,
  DeadLetterWithAttempts,
  Delivery,
  DeliveryWithAttempts,
  Erasure,
  EventLogView,
  EventSummary,
  Imported,
  Issuer,
  IssuerInput,
  IssuerLogout,
  IssuerLogoutPreview,
  Jwks,
  KeysCheck,
  LogAudit,
  LogKeys,
  LogoutEventInput,
  LogoutEventStatus,
  NewApiKey,
  OrphanedSession,
  OwnCredential,
  Probe,
  ProbeInput,
  ProbeSessionInput,
  Problem,
  QuarantinedContent,
  QuarantinedRecord,
  ReceiptBundle,
  RelyingParty,
  RelyingPartyHealth,
  RelyingPartyInput,
  RelyingPartyPatch,
  Removed,
  Replay,
  ReplayInput,
  ReplayPreview,
  ResourceServer,
  ResourceServerInput,
  RetireInput,
  RotateInput,
  RotateSecretInput,
  Session,
  SessionAccepted,
  SessionAcceptedOrRejected,
  SessionEndQuery,
  SessionInput,
  SigningKey,
  SigningKeyInput,
  SigningKeys,
  Sla,
  Webhook,
  WebhookDelivery,
  WebhookInput,
  WebhookTest,
} from '@curfew/contract'

/** An answer that refuses the request. */
export class ApiError extends Error {
  readonly status: number
  readonly problem: Problem
  /** The time to wait before another request, in milliseconds. Null if the answer has no `Retry-After` in seconds. */
  readonly retryAfterMs: number | null

  constructor(problem: Problem, retryAfterMs: number | null) {
    const first = problem.errors?.[0]
    super(first === undefined ? (problem.detail ?? problem.title) : `${first.pointer} ${first.detail}`)
    this.name = 'ApiError'
    this.status = problem.status
    this.problem = problem
    this.retryAfterMs = retryAfterMs
  }
}

export interface ClientOptions {
  /** The base URL of Curfew, such as `http://127.0.0.1:8480`. */
  readonly url: string
  /** An API key or a JWT access token. A function is called for each request, so that a rotated key counts at once. */
  readonly key: string | (() => string | Promise<string>)
  /** The longest time for one request with its answer, in milliseconds. Default: that of `fetch`. */
  readonly timeoutMs?: number
}

/** The issuer that gave an event its id. A key that is bound to an issuer does not need it. */
export interface IssuerOption {
  /** The short name. */
  readonly issuer?: string
}

export interface Page<Item> {
  readonly items: readonly Item[]
  readonly next_cursor: string | null
}

export interface PageFilter {
  readonly limit?: number
  readonly cursor?: string
}

export interface DeliveriesFilter {
  readonly issuer?: string
  readonly client_id?: string
  /** The kind of the channel. */
  readonly channel?: string
  readonly event_id?: string
  readonly state?: Delivery['state']
  readonly since?: string
  readonly until?: string
  readonly limit?: number
  readonly cursor?: string
}

export type DeadLettersFilter = PageFilter & Readonly<Omit<DeadLetterFilterInput, 'ids'>>

export interface QuarantineFilter extends PageFilter {
  readonly issuer?: string
  readonly lane?: string
  readonly kind?: string
  readonly state?: string
}

export interface SlaFilter {
  readonly issuer?: string
  readonly client_id?: string
  /** Counts events that were accepted at or after `from` and before `to` (RFC 3339, full hours). */
  readonly from?: string
  readonly to?: string
  readonly group_by?: 'relying_party' | 'hour'
}

/** Selects the sessions of a subject, one session at all of its clients, or the overlong sessions of an issuer. */
export type SessionsFilter = PageFilter & { readonly iss: string; readonly client_id?: string } & (
    | { readonly sub: string; readonly sid?: never; readonly overlong?: never }
    | { readonly sid: string; readonly sub?: never; readonly overlong?: never }
    | { readonly overlong: true; readonly sub?: never; readonly sid?: never }
  )

export interface OrphansFilter extends PageFilter {
  readonly issuer?: string
  readonly client_id?: string
}

export interface AuditsFilter extends PageFilter {
  readonly issuer?: string
  readonly client_id?: string
  readonly result?: NonNullable<Audit['result']>
}

/** The readiness of a service and of its dependencies. */
export interface Readiness {
  /** The names of all checked dependencies. */
  readonly checks: readonly string[]
  /** The dependencies that do not answer. */
  readonly unavailable: readonly string[]
  /** The dependencies that work in part. They do not make the service unready. */
  readonly degraded: readonly string[]
  /** Checks that fail whenever another one fails, with the name of that one. */
  readonly needs: Readonly<Record<string, string>>
  /** The clock of the service, in whole seconds. Null if the answer has no date. */
  readonly date: Date | null
}

/** A typed client of Curfew's HTTP API. A call rejects with an `ApiError` if Curfew refuses it. */
export interface Client {
  postLogoutEvent(event: LogoutEventInput): Promise<Accepted>
  postLogoutEvents(events: readonly LogoutEventInput[]): Promise<readonly AcceptedOrRejected[]>
  /** Previews the sessions that an issuer logout would end. Changes nothing. @param event an event of scope `issuer`. */
  previewIssuerLogout(event: LogoutEventInput): Promise<IssuerLogoutPreview>
  listIssuerLogouts(filter?: PageFilter & { readonly iss?: string }): Promise<Page<IssuerLogout>>
  getIssuerLogout(id: string, options?: IssuerOption): Promise<IssuerLogout>
  /** Stops an issuer logout. No further subjects are logged out. Logouts that are handed over already are still delivered. */
  cancelIssuerLogout(id: string, options?: IssuerOption): Promise<IssuerLogout>
  /** @param wait the longest time to wait until every delivery is settled, in seconds, up to 30. */
  getLogoutEvent(id: string, options?: IssuerOption & { readonly wait?: number }): Promise<LogoutEventStatus>
  /** A summary for the user who logged out, in words: the applications that are signed out, and the ones that are not. */
  getEventSummary(id: string, options?: IssuerOption & { readonly wait?: number }): Promise<EventSummary>
  postSession(session: SessionInput): Promise<SessionAccepted>
  postSessions(sessions: readonly SessionInput[]): Promise<readonly SessionAcceptedOrRejected[]>
  /** Reports that a session ended by itself, at one client or at all. No relying party is notified. */
  endSession(end: SessionEndQuery): Promise<SessionAccepted>
  listSessions(filter: SessionsFilter): Promise<Page<Session>>
  /** Sessions whose logout failed. */
  listOrphans(filter?: OrphansFilter): Promise<Page<OrphanedSession>>
  /**
   * The receipt of a settled event, with all data to verify it.
   *
   * @param from the size of an earlier checkpoint: the answer also proves that the log extends it.
   */
  getReceipt(
    id: string,
    options?: IssuerOption & { readonly from?: number; readonly subject_key?: true },
  ): Promise<ReceiptBundle>
  /** The current checkpoint of the receipt log, in the format of C2SP tlog-checkpoint. */
  getCheckpoint(): Promise<string>
  getLogKeys(): Promise<LogKeys>
  /** Compares the log entries from `start` on with the stored receipts and deliveries. */
  auditLog(page: { readonly start: number; readonly limit?: number }): Promise<LogAudit>
  listDeliveries(filter?: DeliveriesFilter): Promise<Page<Delivery>>
  getDelivery(id: string): Promise<DeliveryWithAttempts>
  listDeadLetters(filter?: DeadLettersFilter): Promise<Page<DeadLetter>>
  getDeadLetter(id: string): Promise<DeadLetterWithAttempts>
  /** Previews the dead letters that a replay would put back. Changes nothing. */
  previewReplay(replay: Omit<ReplayInput, 'dry_run'>): Promise<ReplayPreview>
  startReplay(replay: Omit<ReplayInput, 'dry_run'>): Promise<Replay>
  getReplay(id: string): Promise<Replay>
  cancelReplay(id: string): Promise<Replay>
  /** Accepted records that could not be planned or applied. */
  listQuarantined(filter?: QuarantineFilter): Promise<Page<QuarantinedRecord>>
  getQuarantined(id: string): Promise<QuarantinedContent>
  /** Requests that the record is appended to the event log again. */
  requeueQuarantined(id: string): Promise<QuarantinedRecord>
  dismissQuarantined(id: string): Promise<QuarantinedRecord>
  /**
   * Requests the erasure of a subject. It completes at once if no work for the subject is pending.
   *
   * @param abandon gives up dead letters and other work that a person could still act on. Default false.
   */
  eraseSubject(
    issuer: string,
    sub: string,
    options?: { readonly abandon?: boolean; readonly email?: string },
  ): Promise<Erasure>
  /** The state of an erasure request. */
  getErasure(id: string): Promise<Erasure>
  putIssuer(name: string, issuer: IssuerInput): Promise<Issuer>
  getIssuer(name: string): Promise<Issuer>
  /**
   * Reads an issuer and puts it. It tries again if another change came first.
   *
   * @param next returns the new registration; null: the issuer is not registered. It may be called more than once.
   */
  changeIssuer(name: string, next: (before: Issuer | null) => IssuerInput): Promise<Issuer>
  putRelyingParty(
    issuer: string,
    clientId: string,
    metadata: RelyingPartyInput & Readonly<Record<string, unknown>>,
  ): Promise<RelyingParty>
  getRelyingParty(issuer: string, clientId: string): Promise<RelyingParty>
  /**
   * Probes an endpoint: sends valid tokens, which it must accept, and forged tokens, which it must refuse. The tokens name no real
   * session. Takes up to a minute.
   */
  probe(issuer: string, clientId: string, probe?: ProbeInput): Promise<Probe>
  /** Stores whether the real session of the last probe is over. */
  answerProbe(issuer: string, clientId: string, answer: ProbeSessionInput): Promise<Probe>
  /** The last probe of this client, which may be running. */
  getProbe(issuer: string, clientId: string): Promise<Probe>
  /** Sets up the logout audits of a relying party. Absent secrets stay as they are stored, if the login stays the same. */
  putAuditSetup(issuer: string, clientId: string, setup: AuditSetupInput): Promise<AuditSetup>
  getAuditSetup(issuer: string, clientId: string): Promise<AuditSetup>
  deleteAuditSetup(issuer: string, clientId: string): Promise<void>
  /** Starts one audit for each client. They run within seconds, and end within the times of their set-ups. */
  runAudits(audits: AuditsInput): Promise<Audits>
  listAudits(filter?: AuditsFilter): Promise<Page<Audit>>
  getAudit(id: string): Promise<Audit>
  listIssuers(page?: PageFilter): Promise<Page<Issuer>>
  listRelyingParties(issuer: string, page?: PageFilter): Promise<Page<RelyingParty>>
  /**
   * Reads a relying party and patches it (RFC 7396). It tries again if another change came first.
   *
   * @param patch returns the changes for the current registration. It may be called more than once.
   */
  changeRelyingParty(
    issuer: string,
    clientId: string,
    patch: (before: RelyingParty) => RelyingPartyPatch,
  ): Promise<RelyingParty>
  deleteRelyingParty(issuer: string, clientId: string): Promise<Removed>
  /** Lists the confirmations of the logouts that the client started, the latest first. */
  listConfirmations(
    issuer: string,
    clientId: string,
    page?: PageFilter & { readonly state?: Confirmation['state'] },
  ): Promise<Page<Confirmation>>
  /** Changes the secret that signs confirmations. The answer has it in `curfew.confirmation_secret`. */
  rotateConfirmationSecret(
    issuer: string,
    clientId: string,
    secret?: RotateSecretInput,
  ): Promise<RelyingParty>
  getRelyingPartyHealth(issuer: string, clientId: string): Promise<RelyingPartyHealth>
  /** Registers a resource server: an API that reads the cutoff feed of its issuer. */
  putResourceServer(issuer: string, name: string, server?: ResourceServerInput): Promise<ResourceServer>
  getResourceServer(issuer: string, name: string): Promise<ResourceServer>
  listResourceServers(issuer: string, page?: PageFilter): Promise<Page<ResourceServer>>
  deleteResourceServer(issuer: string, name: string): Promise<Removed>
  /** @param clients NDJSON as a text or a stream. The problem of a refusal has the faults in `faults`: see `ImportFault`. */
  importRelyingParties(
    issuer: string,
    clients: string | ReadableStream<Uint8Array>,
    options?: {
      readonly dryRun?: boolean
      /** Imports the valid clients although others have faults. */
      readonly skipInvalid?: boolean
    },
  ): Promise<Imported>
  /** All relying parties of an issuer as a stream of NDJSON. */
  exportRelyingParties(issuer: string): Promise<ReadableStream<Uint8Array>>
  /** The SLA report. */
  getSla(filter?: SlaFilter): Promise<Sla>
  getJwks(issuer: string): Promise<Jwks>
  listKeys(issuer: string): Promise<SigningKeys>
  addKey(issuer: string, key: SigningKeyInput): Promise<AddedKey>
  rotateKeys(issuer: string, rotation?: RotateInput): Promise<SigningKeys>
  retireKey(issuer: string, kid: string, retirement?: RetireInput): Promise<SigningKey>
  /** Checks that the IdP's own key set contains Curfew's keys. */
  checkKeys(issuer: string): Promise<KeysCheck>
  /** The backlog of the event log, and the settings of its topics. */
  getEventLog(): Promise<EventLogView>
  /** The readiness of the service. Does not reject if a dependency is unavailable. */
  readiness(): Promise<Readiness>
  /** Creates a key. Only this answer contains the key itself. */
  createApiKey(key: ApiKeyInput): Promise<NewApiKey>
  /** The credential of this client itself. Any valid credential may ask. */
  getCredential(): Promise<OwnCredential>
  listApiKeys(page?: PageFilter): Promise<Page<ApiKey>>
  revokeApiKey(id: string): Promise<ApiKey>
  /** Creates or changes a webhook. The answer contains the secret only for a new webhook. */
  putWebhook(name: string, webhook: WebhookInput): Promise<Webhook>
  listWebhooks(page?: PageFilter): Promise<Page<Webhook>>
  deleteWebhook(name: string): Promise<void>
  testWebhook(name: string): Promise<WebhookTest>
  listWebhookDeliveries(name: string, page?: PageFilter): Promise<Page<WebhookDelivery>>
}

const NDJSON = 'application/x-ndjson'
/** The number of attempts to change an object while other changes come first. */
const CHANGE_TRIES = 10

export function createClient({ url, key, timeoutMs }: ClientOptions): Client {
  // `url` may have a path of its own, as behind a proxy.
  const base = url.replace(/\/+$/, '')
  async function send(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    {
      body,
      headers = {},
    }: { body?: string | ReadableStream<Uint8Array>; headers?: Readonly<Record<string, string>> } = {},
  ): Promise<Response> {
    const credential = checkedKey(typeof key === 'string' ? key : await key())
    const response = await fetch(base + path, {
      method,
      headers: { authorization: `Bearer ${credential}`, ...headers },
      ...(timeoutMs !== undefined && { signal: AbortSignal.timeout(timeoutMs) }),
      // fetch requires this setting for a streamed body.
      ...(body !== undefined && { body, duplex: 'half' }),
    })
    if (response.ok) return response
    const after = response.headers.get('retry-after')
    throw new ApiError(
      readProblem(await response.text(), response.status),
      after === null || !/^\d+$/.test(after) ? null : Number(after) * 1_000,
    )
  }
  async function call<Answer>(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    body?: unknown,
  ): Promise<Answer> {
    const json = { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
    const response = await send(method, path, body === undefined ? {} : json)
    const text = await response.text()
    // A 204 has no body.
    return (text === '' ? undefined : JSON.parse(text)) as Answer
  }
  /** Reads an object, and sends the result of `next` to its path. Tries again if another change came first. */
  async function change<Answer>(
    method: 'PUT' | 'PATCH',
    path: string,
    next: (before: Answer | null) => unknown,
  ): Promise<Answer> {
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
    for (let tries = 1; ; tries++) {
      const found = await send('GET', path).catch((error) => {
        if (method === 'PUT' && error instanceof ApiError && error.status === 404) return null
        throw error
      })
      const etag = found?.headers.get('etag') ?? null
      const body = JSON.stringify(next(found === null ? null : ((await found.json()) as Answer)))
      const condition = found === null ? { 'if-none-match': '*' } : etag !== null && { 'if-match': etag }
      try {
        const changed = await send(method, path, { body, headers: { 'content-type': type, ...condition } })
        return (await changed.json()) as Answer
      } catch (error) {
        const overtaken = error instanceof ApiError && error.status === 412
        if (!overtaken || tries === CHANGE_TRIES) throw error
      }
    }
  }
  const eventPathOf = (id: string, suffix: string, options: object) =>
    withQuery(`/v1/logout-events/${encodeURIComponent(id)}${suffix}`, options)
  const issuerLogoutPathOf = (id: string, options: IssuerOption) =>
    withQuery(`/v1/issuer-logouts/${encodeURIComponent(id)}`, options)
  const issuerPath = (name: string) => `/v1/issuers/${encodeURIComponent(name)}`
  const quarantinePath = (id: string) => `/v1/quarantine/${encodeURIComponent(id)}`
  const webhookPath = (name: string) => `/v1/webhooks/${encodeURIComponent(name)}`
  const partyPath = (name: string, clientId: string) =>
    `${issuerPath(name)}/relying-parties/${encodeURIComponent(clientId)}`
  const serverPath = (issuer: string, name: string) =>
    `${issuerPath(issuer)}/resource-servers/${encodeURIComponent(name)}`

  return {
    postLogoutEvent: (event) => call('POST', '/v1/logout-events', event),
    postLogoutEvents: (events) => call('POST', '/v1/logout-events', events),
    previewIssuerLogout: (event) => call('POST', '/v1/logout-events?dry_run=true', event),
    listIssuerLogouts: (filter = {}) => call('GET', `/v1/issuer-logouts?${query(filter)}`),
    getIssuerLogout: (id, options = {}) => call('GET', issuerLogoutPathOf(id, options)),
    cancelIssuerLogout: (id, options = {}) => call('DELETE', issuerLogoutPathOf(id, options)),
    getLogoutEvent: (id, options = {}) => call('GET', eventPathOf(id, '', options)),
    getEventSummary: (id, options = {}) => call('GET', eventPathOf(id, '/summary', options)),
    postSession: (session) => call('POST', '/v1/sessions', session),
    postSessions: (sessions) => call('POST', '/v1/sessions', sessions),
    endSession: (end) => call('DELETE', `/v1/sessions?${query(end)}`),
    listSessions: (filter) => call('GET', `/v1/sessions?${query(filter)}`),
    listOrphans: (filter = {}) => call('GET', `/v1/sessions/orphans?${query(filter)}`),
    async getReceipt(id, options = {}) {
      const path = eventPathOf(id, '/receipt', options)
      const response = await send('GET', path, { headers: { accept: 'application/json' } })
      return (await response.json()) as ReceiptBundle
    },
    getCheckpoint: async () => (await send('GET', '/v1/log/checkpoint')).text(),
    getLogKeys: () => call('GET', '/v1/log/keys'),
    auditLog: (page) => call('GET', `/v1/log/audit?${query(page)}`),
    listDeliveries: (filter = {}) => call('GET', `/v1/deliveries?${query(filter)}`),
    getDelivery: (id) => call('GET', `/v1/deliveries/${encodeURIComponent(id)}`),
    listDeadLetters: (filter = {}) => call('GET', `/v1/dead-letters?${query(filter)}`),
    getDeadLetter: (id) => call('GET', `/v1/dead-letters/${encodeURIComponent(id)}`),
    previewReplay: (replay) => call('POST', '/v1/dead-letters/replay', { ...replay, dry_run: true }),
    startReplay: (replay) => call('POST', '/v1/dead-letters/replay', replay),
    getReplay: (id) => call('GET', `/v1/replays/${encodeURIComponent(id)}`),
    cancelReplay: (id) => call('DELETE', `/v1/replays/${encodeURIComponent(id)}`),
    listQuarantined: (filter = {}) => call('GET', `/v1/quarantine?${query(filter)}`),
    getQuarantined: (id) => call('GET', quarantinePath(id)),
    requeueQuarantined: (id) => call('POST', `${quarantinePath(id)}/requeue`, {}),
    dismissQuarantined: (id) => call('DELETE', quarantinePath(id)),
    eraseSubject: (issuer, sub, options = {}) =>
      call(
        'DELETE',
        `/v1/subjects/${encodeURIComponent(issuer)}/${encodeURIComponent(sub)}?${query(options)}`,
      ),
    getErasure: (id) => call('GET', `/v1/erasures/${encodeURIComponent(id)}`),
    putIssuer: (name, issuer) => call('PUT', issuerPath(name), issuer),
    getIssuer: (name) => call('GET', issuerPath(name)),
    putRelyingParty: (issuer, clientId, metadata) => call('PUT', partyPath(issuer, clientId), metadata),
    getRelyingParty: (issuer, clientId) => call('GET', partyPath(issuer, clientId)),
    listKeys: (issuer) => call('GET', `${issuerPath(issuer)}/keys`),
    addKey: (issuer, key) => call('POST', `${issuerPath(issuer)}/keys`, key),
    rotateKeys: (issuer, rotation = {}) => call('POST', `${issuerPath(issuer)}/keys/rotate`, rotation),
    retireKey: (issuer, kid, retirement = {}) =>
      call('POST', `${issuerPath(issuer)}/keys/${encodeURIComponent(kid)}/retire`, retirement),
    checkKeys: (issuer) => call('GET', `${issuerPath(issuer)}/keys/check`),
    getEventLog: () => call('GET', '/v1/event-log'),
    async readiness() {
      const response = await fetch(`${base}/readyz`)
      const text = await response.text()
      const date = new Date(response.headers.get('date') ?? Number.NaN)
      return { ...readReadiness(text, response.status), date: Number.isNaN(date.getTime()) ? null : date }
    },
    probe: (issuer, clientId, probe = {}) => call('POST', `${partyPath(issuer, clientId)}/probe`, probe),
    answerProbe: (issuer, clientId, answer) =>
      call('PUT', `${partyPath(issuer, clientId)}/probe/session`, answer),
    getProbe: (issuer, clientId) => call('GET', `${partyPath(issuer, clientId)}/probe`),
    putAuditSetup: (issuer, clientId, setup) => call('PUT', `${partyPath(issuer, clientId)}/audit`, setup),
    getAuditSetup: (issuer, clientId) => call('GET', `${partyPath(issuer, clientId)}/audit`),
    deleteAuditSetup: (issuer, clientId) => call('DELETE', `${partyPath(issuer, clientId)}/audit`),
    runAudits: (audits) => call('POST', '/v1/audits', audits),
    listAudits: (filter = {}) => call('GET', `/v1/audits?${query(filter)}`),
    getAudit: (id) => call('GET', `/v1/audits/${encodeURIComponent(id)}`),
    listIssuers: (page = {}) => call('GET', `/v1/issuers?${query(page)}`),
    listRelyingParties: (issuer, page = {}) =>
      call('GET', `${issuerPath(issuer)}/relying-parties?${query(page)}`),
    changeIssuer: (name, next) => change('PUT', issuerPath(name), next),
    changeRelyingParty: (issuer, clientId, patch) =>
      change<RelyingParty>('PATCH', partyPath(issuer, clientId), (before) => patch(before as RelyingParty)),
    deleteRelyingParty: (issuer, clientId) => call('DELETE', partyPath(issuer, clientId)),
    listConfirmations: (issuer, clientId, filter = {}) =>
      call('GET', `${partyPath(issuer, clientId)}/confirmations?${query(filter)}`),
    rotateConfirmationSecret: (issuer, clientId, secret = {}) =>
      call('POST', `${partyPath(issuer, clientId)}/confirmations/rotate-secret`, secret),
    putResourceServer: (issuer, name, server = {}) => call('PUT', serverPath(issuer, name), server),
    getResourceServer: (issuer, name) => call('GET', serverPath(issuer, name)),
    listResourceServers: (issuer, page = {}) =>
      call('GET', `${issuerPath(issuer)}/resource-servers?${query(page)}`),
    deleteResourceServer: (issuer, name) => call('DELETE', serverPath(issuer, name)),
    getRelyingPartyHealth: (issuer, clientId) => call('GET', `${partyPath(issuer, clientId)}/health`),
    async importRelyingParties(issuer, clients, { dryRun = false, skipInvalid = false } = {}) {
      const options = query({ ...(dryRun && { dry_run: true }), ...(skipInvalid && { skip_invalid: true }) })
      const path = `${issuerPath(issuer)}/relying-parties/import?${options}`
      const response = await send('POST', path, { body: clients, headers: { 'content-type': NDJSON } })
      return (await response.json()) as Imported
    },
    async exportRelyingParties(issuer) {
      const response = await send('GET', `${issuerPath(issuer)}/relying-parties`, {
        headers: { accept: NDJSON },
      })
      return response.body ?? new ReadableStream()
    },
    getSla: (filter = {}) => call('GET', `/v1/sla?${query(filter)}`),
    getJwks: (issuer) => call('GET', `/issuers/${encodeURIComponent(issuer)}/jwks.json`),
    createApiKey: (key) => call('POST', '/v1/api-keys', key),
    getCredential: () => call('GET', '/v1/credential'),
    listApiKeys: (page = {}) => call('GET', `/v1/api-keys?${query(page)}`),
    revokeApiKey: (id) => call('DELETE', `/v1/api-keys/${encodeURIComponent(id)}`),
    putWebhook: (name, webhook) => call('PUT', webhookPath(name), webhook),
    listWebhooks: (filter = {}) => call('GET', `/v1/webhooks?${query(filter)}`),
    deleteWebhook: (name) => call('DELETE', webhookPath(name)),
    testWebhook: (name) => call('POST', `${webhookPath(name)}/test`, {}),
    listWebhookDeliveries: (name, filter = {}) =>
      call('GET', `${webhookPath(name)}/deliveries?${query(filter)}`),
  }
}

/** The key without the line end of its file. @throws {Error} for a key that `fetch` would refuse with an error that shows it. */
function checkedKey(key: string): string {
  const trimmed = key.trim()
  if (/^[\x21-\x7e]*$/.test(trimmed)) return trimmed
  throw new Error(
    'The key for Curfew has characters that no key has, such as a line end. Check the place that it comes from.',
  )
}

/** @throws {ApiError} if the answer is not Curfew's. */
function readReadiness(text: string, status: number): Omit<Readiness, 'date'> {
  try {
    // A service of an earlier release has no `degraded`. One without `needs` has no such checks.
    const { checks, unavailable, degraded = [], needs } = Object(JSON.parse(text)) as Record<string, unknown>
    if (Array.isArray(checks) && Array.isArray(unavailable) && Array.isArray(degraded))
      return { checks, unavailable, degraded, needs: Object(needs) as Readonly<Record<string, string>> }
  } catch {
    // The page of a proxy or of another service.
  }
  throw new ApiError(
    { ...readProblem(text, status), detail: 'The answer is not from Curfew. Check the URL.' },
    null,
  )
}

function withQuery(path: string, options: object): string {
  const text = query({ ...options })
  return text === '' ? path : `${path}?${text}`
}

function query(
  filter:
    | Readonly<Record<string, unknown>>
    | DeliveriesFilter
    | DeadLettersFilter
    | SessionsFilter
    | OrphansFilter
    | QuarantineFilter
    | PageFilter
    | SlaFilter
    | AuditsFilter,
): string {
  const parameters = new URLSearchParams()
  for (const [name, value] of Object.entries(filter)) {
    if (value !== undefined) parameters.set(name, String(value))
  }
  return parameters.toString()
}

/** The title that the client gives to the answer of a proxy. */
const foreignTitle = (status: number) => `HTTP ${status}`

/** Whether another program has answered, such as a proxy. */
export function isForeign({ problem }: ApiError): boolean {
  return problem.title === foreignTitle(problem.status)
}

function readProblem(text: string, status: number): Problem {
  // An answer of a proxy, whose page or JSON has only its status in common with Curfew's problems.
  const unknown = { type: 'about:blank', title: foreignTitle(status), status }
  try {
    const parsed: unknown = JSON.parse(text)
    const ours = typeof parsed === 'object' && parsed !== null && 'title' in parsed && 'type' in parsed
    return ours ? { ...(parsed as Problem), status } : unknown
  } catch {
    return unknown
  }
}
