import type {
  Accepted,
  AcceptedOrRejected,
  ApiKey,
  ApiKeyInput,
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
  Probe,
  ProbeInput,
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
  RetireInput,
  RotateInput,
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

/** Curfew answered, and the answer is no. */
export class ApiError extends Error {
  readonly status: number
  readonly problem: Problem
  /** How long to wait before asking again, in milliseconds, where the answer says. */
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
  /** Where Curfew is, such as `http://127.0.0.1:8480`. */
  readonly url: string
  /** An API key or a JWT access token. */
  readonly key: string
}

/** The issuer that gave an id. A key that is bound to an issuer does not need it. */
export interface OfIssuer {
  /** Short name. */
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
  /** Kind of the channel. */
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
  /** Accepted at or after, and before (RFC 3339), to full hours. */
  readonly from?: string
  readonly to?: string
  readonly group_by?: 'relying_party' | 'hour'
}

/** Whose sessions: of a subject, or what clients have of one session. */
export type SessionsFilter = PageFilter & { readonly iss: string } & (
    | { readonly sub: string; readonly sid?: never }
    | { readonly sid: string; readonly sub?: never }
  )

export interface OrphansFilter extends PageFilter {
  readonly issuer?: string
  readonly client_id?: string
}

/** Whether what a service needs answers. */
export interface Readiness {
  /** Names of all that it needs. */
  readonly checks: readonly string[]
  /** Of those: what does not answer. */
  readonly away: readonly string[]
  /** Of those: what works in part. The service is ready all the same. */
  readonly degraded: readonly string[]
  /** The service's clock, in whole seconds; null where the answer does not say. */
  readonly date: Date | null
}

/** A typed client of Curfew's HTTP API. Every call rejects with `ApiError` when the answer is no. */
export interface Client {
  postLogoutEvent(event: LogoutEventInput): Promise<Accepted>
  postLogoutEvents(events: readonly LogoutEventInput[]): Promise<readonly AcceptedOrRejected[]>
  /** What a logout of everyone would touch. Changes nothing. @param event of scope `issuer`. */
  previewIssuerLogout(event: LogoutEventInput): Promise<IssuerLogoutPreview>
  listIssuerLogouts(filter?: PageFilter & { readonly iss?: string }): Promise<Page<IssuerLogout>>
  getIssuerLogout(id: string, options?: OfIssuer): Promise<IssuerLogout>
  /** Nobody else is logged out; whose logout is made is told. */
  cancelIssuerLogout(id: string, options?: OfIssuer): Promise<IssuerLogout>
  /** @param wait seconds, up to 30, to hold the answer until every delivery is settled. */
  getLogoutEvent(id: string, options?: OfIssuer & { readonly wait?: number }): Promise<LogoutEventStatus>
  /** The same for a person: how much is signed out, and what is left to do, in words. */
  getEventSummary(id: string, options?: OfIssuer & { readonly wait?: number }): Promise<EventSummary>
  postSession(session: SessionInput): Promise<SessionAccepted>
  postSessions(sessions: readonly SessionInput[]): Promise<readonly SessionAcceptedOrRejected[]>
  /** A session ended by itself, at one client or at all: nobody is told. */
  endSession(end: SessionEndQuery): Promise<SessionAccepted>
  listSessions(filter: SessionsFilter): Promise<Page<Session>>
  /** Sessions whose logout came to nothing. */
  listOrphans(filter?: OrphansFilter): Promise<Page<OrphanedSession>>
  /** The receipt of a settled event with all that it is checked by. @param from also proves that the log begins with the one of this size. */
  getReceipt(
    id: string,
    options?: OfIssuer & { readonly from?: number; readonly subject_key?: true },
  ): Promise<ReceiptBundle>
  /** What the log is now, as C2SP tlog-checkpoint writes it. */
  getCheckpoint(): Promise<string>
  getLogKeys(): Promise<LogKeys>
  /** Entries from `start` on, each held against what is stored of it. */
  auditLog(page: { readonly start: number; readonly limit?: number }): Promise<LogAudit>
  listDeliveries(filter?: DeliveriesFilter): Promise<Page<Delivery>>
  getDelivery(id: string): Promise<DeliveryWithAttempts>
  listDeadLetters(filter?: DeadLettersFilter): Promise<Page<DeadLetter>>
  getDeadLetter(id: string): Promise<DeadLetterWithAttempts>
  /** What a replay would touch. Changes nothing. */
  previewReplay(replay: Omit<ReplayInput, 'dry_run'>): Promise<ReplayPreview>
  startReplay(replay: Omit<ReplayInput, 'dry_run'>): Promise<Replay>
  getReplay(id: string): Promise<Replay>
  cancelReplay(id: string): Promise<Replay>
  /** Records that were accepted and could not be planned or applied. */
  listQuarantined(filter?: QuarantineFilter): Promise<Page<QuarantinedRecord>>
  getQuarantined(id: string): Promise<QuarantinedContent>
  /** Asks that the record be appended to the event log again. */
  requeueQuarantined(id: string): Promise<QuarantinedRecord>
  dismissQuarantined(id: string): Promise<QuarantinedRecord>
  /**
   * Asks that a subject be forgotten: at once where nothing of it is under way.
   *
   * @param abandon gives up, too, what a person could still act on. Default false.
   */
  eraseSubject(
    issuer: string,
    sub: string,
    options?: { readonly abandon?: boolean; readonly email?: string },
  ): Promise<Erasure>
  /** How such a request stands. */
  getErasure(id: string): Promise<Erasure>
  putIssuer(name: string, issuer: IssuerInput): Promise<Issuer>
  getIssuer(name: string): Promise<Issuer>
  putRelyingParty(
    issuer: string,
    clientId: string,
    metadata: RelyingPartyInput & Readonly<Record<string, unknown>>,
  ): Promise<RelyingParty>
  getRelyingParty(issuer: string, clientId: string): Promise<RelyingParty>
  /** Sends an endpoint the tokens that it must take and must refuse, none for a real session. Takes up to a minute. */
  probe(issuer: string, clientId: string, probe?: ProbeInput): Promise<Probe>
  /** The last probe of this client, also one that is under way. */
  getProbe(issuer: string, clientId: string): Promise<Probe>
  listIssuers(page?: PageFilter): Promise<Page<Issuer>>
  listRelyingParties(issuer: string, page?: PageFilter): Promise<Page<RelyingParty>>
  /**
   * Patches a relying party (RFC 7396) as it is found, and again where somebody else came first.
   *
   * @param patch what shall be another; it may be asked more than once.
   */
  changeRelyingParty(
    issuer: string,
    clientId: string,
    patch: (before: RelyingParty) => RelyingPartyPatch,
  ): Promise<RelyingParty>
  deleteRelyingParty(issuer: string, clientId: string): Promise<Removed>
  getRelyingPartyHealth(issuer: string, clientId: string): Promise<RelyingPartyHealth>
  /** @param clients NDJSON, whole or as it comes. Faults are in the `faults` of the problem: see `ImportFault`. */
  importRelyingParties(
    issuer: string,
    clients: string | ReadableStream<Uint8Array>,
    options?: { readonly dryRun?: boolean },
  ): Promise<Imported>
  /** Every relying party as NDJSON, as it comes. */
  exportRelyingParties(issuer: string): Promise<ReadableStream<Uint8Array>>
  /** Whether the promise is kept. */
  getSla(filter?: SlaFilter): Promise<Sla>
  getJwks(issuer: string): Promise<Jwks>
  listKeys(issuer: string): Promise<SigningKeys>
  addKey(issuer: string, key: SigningKeyInput): Promise<SigningKey>
  rotateKeys(issuer: string, rotation?: RotateInput): Promise<SigningKeys>
  retireKey(issuer: string, kid: string, retirement?: RetireInput): Promise<SigningKey>
  /** Whether the IdP's own key set has our keys. */
  checkKeys(issuer: string): Promise<KeysCheck>
  /** How far delivery is behind, and whether the topics are as they must be. */
  getEventLog(): Promise<EventLogView>
  /** Whether what the service needs answers. Does not reject where something is away. */
  readiness(): Promise<Readiness>
  /** The answer has the key itself, this once. */
  createApiKey(key: ApiKeyInput): Promise<NewApiKey>
  listApiKeys(page?: PageFilter): Promise<Page<ApiKey>>
  revokeApiKey(id: string): Promise<ApiKey>
  /** The answer has the secret where the webhook is new. */
  putWebhook(name: string, webhook: WebhookInput): Promise<Webhook>
  listWebhooks(page?: PageFilter): Promise<Page<Webhook>>
  deleteWebhook(name: string): Promise<void>
  testWebhook(name: string): Promise<WebhookTest>
  listWebhookDeliveries(name: string, page?: PageFilter): Promise<Page<WebhookDelivery>>
}

const NDJSON = 'application/x-ndjson'
/** How often a change is made anew because somebody else came first. */
const CHANGE_TRIES = 10

export function createClient({ url, key }: ClientOptions): Client {
  // Paths are put behind what `url` has, which may itself lie under a path of a proxy.
  const base = url.replace(/\/+$/, '')
  async function send(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    {
      body,
      headers = {},
    }: { body?: string | ReadableStream<Uint8Array>; headers?: Readonly<Record<string, string>> } = {},
  ): Promise<Response> {
    const response = await fetch(base + path, {
      method,
      headers: { authorization: `Bearer ${key}`, ...headers },
      // What comes by and by can be sent in one direction at a time only.
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
    // 204 has nothing to say.
    return (text === '' ? undefined : JSON.parse(text)) as Answer
  }
  const eventPathOf = (id: string, of: string, options: object) =>
    withQuery(`/v1/logout-events/${encodeURIComponent(id)}${of}`, options)
  const issuerLogoutPathOf = (id: string, options: OfIssuer) =>
    withQuery(`/v1/issuer-logouts/${encodeURIComponent(id)}`, options)
  const issuerPath = (name: string) => `/v1/issuers/${encodeURIComponent(name)}`
  const quarantinePath = (id: string) => `/v1/quarantine/${encodeURIComponent(id)}`
  const webhookPath = (name: string) => `/v1/webhooks/${encodeURIComponent(name)}`
  const partyPath = (name: string, clientId: string) =>
    `${issuerPath(name)}/relying-parties/${encodeURIComponent(clientId)}`

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
    getProbe: (issuer, clientId) => call('GET', `${partyPath(issuer, clientId)}/probe`),
    listIssuers: (page = {}) => call('GET', `/v1/issuers?${query(page)}`),
    listRelyingParties: (issuer, page = {}) =>
      call('GET', `${issuerPath(issuer)}/relying-parties?${query(page)}`),
    async changeRelyingParty(issuer, clientId, patch) {
      const path = partyPath(issuer, clientId)
      for (let tries = 1; ; tries++) {
        const found = await send('GET', path)
        const etag = found.headers.get('etag')
        const change = patch((await found.json()) as RelyingParty)
        try {
          const changed = await send('PATCH', path, {
            body: JSON.stringify(change),
            headers: {
              'content-type': 'application/merge-patch+json',
              ...(etag !== null && { 'if-match': etag }),
            },
          })
          return (await changed.json()) as RelyingParty
        } catch (error) {
          const overtaken = error instanceof ApiError && error.status === 412
          if (!overtaken || tries === CHANGE_TRIES) throw error
        }
      }
    },
    deleteRelyingParty: (issuer, clientId) => call('DELETE', partyPath(issuer, clientId)),
    getRelyingPartyHealth: (issuer, clientId) => call('GET', `${partyPath(issuer, clientId)}/health`),
    async importRelyingParties(issuer, clients, { dryRun = false } = {}) {
      const path = `${issuerPath(issuer)}/relying-parties/import${dryRun ? '?dry_run=true' : ''}`
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

/** @throws {ApiError} where it is not Curfew that answered. */
function readReadiness(text: string, status: number): Omit<Readiness, 'date'> {
  try {
    // A service of an earlier release has no `degraded`.
    const { checks, away, degraded = [] } = Object(JSON.parse(text)) as Record<string, unknown>
    if (Array.isArray(checks) && Array.isArray(away) && Array.isArray(degraded))
      return { checks, away, degraded }
  } catch {
    // A proxy's page, or another service's.
  }
  throw new ApiError({ ...readProblem(text, status), detail: 'This is not the readiness of Curfew.' }, null)
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
    | SlaFilter,
): string {
  const parameters = new URLSearchParams()
  for (const [name, value] of Object.entries(filter)) {
    if (value !== undefined) parameters.set(name, String(value))
  }
  return parameters.toString()
}

function readProblem(text: string, status: number): Problem {
  // Where the answer is not ours, but a proxy's page or JSON of its own, its status is all there is to tell.
  const unknown = { type: 'about:blank', title: `HTTP ${status}`, status }
  try {
    const parsed: unknown = JSON.parse(text)
    const ours = typeof parsed === 'object' && parsed !== null && 'title' in parsed && 'type' in parsed
    return ours ? { ...(parsed as Problem), status } : unknown
  } catch {
    return unknown
  }
}
