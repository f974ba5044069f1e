import { randomUUID } from 'node:crypto'
import {
  CHANNELS,
  channelOf,
  DEFAULT_KIND,
  type ProbeReport,
  type ProbeTarget,
  type ProbeTools,
  pushChannelOf,
  type SessionAnswer,
  sessionCheck,
} from '@curfew/channels'
import {
  Probe,
  type ProbeFindings,
  ProbeInput,
  type ProbeSession,
  ProbeSessionInput,
  type Scope,
} from '@curfew/contract'
import {
  type ClientId,
  ClientKeyError,
  ClientKeysUnavailableError,
  clientAlgorithmFault,
  deadLetterWords,
  type Issuer,
  type IssuerName,
  issuerNetworkAccess,
  isTokenAlgorithm,
  type NetworkAccess,
  NoEncryptionKeyError,
  narrowedAccess,
  networkAccess,
  type TokenAlgorithm,
} from '@curfew/domain'
import {
  changeLastReport,
  type Database,
  dropProbe,
  type EndpointRecord,
  effectiveSettings,
  endProbe,
  findLastProbe,
  findNetworkRulesLeft,
  findRelyingParty,
  type IssuerRecord,
  type ProbeRecord,
  progressProbe,
  type RelyingPartyRecord,
  startProbe,
  toTls,
} from '@curfew/ledger'
import type { GuardedClient, TlsIdentity } from '@curfew/outbound'
import {
  type Credential,
  callerOf,
  createTurns,
  type HttpServer,
  hasScope,
  ProblemError,
  type RouteAccess,
} from '@curfew/runtime'
import {
  type ClientKeySealer,
  createProbeTokens,
  type Keyring,
  type SubjectHash,
  signAssertion,
} from '@curfew/tokens'
import type { Encrypter, TlsIdentities, TokenReceiver } from '@curfew/wiring'
import { invalid } from '../http/query.ts'
import { registeredUnder } from './channel-parts.ts'
import { issuerOr404 } from './issuers.ts'
import { networksOf } from './networks.ts'
import { PartyParams } from './relying-parties.ts'

const READ = { scope: 'clients:read', access: 'path' } satisfies RouteAccess<Scope>
/** A probe sends about 40 requests. */
const WRITE = { scope: 'clients:write', access: 'path', cost: 50 } satisfies RouteAccess<Scope>
/** Limits of concurrent probes in this process. Each signs about 40 tokens and opens connections. A request over the limit gets a 429. */
const PROBING = { perCaller: 2, waitingPerCaller: 0, atOnce: 4 }
const PATH = '/v1/issuers/:issuer/relying-parties/:client_id/probe'

export interface ProbesDeps {
  readonly db: Database
  readonly keyring: Keyring
  readonly clientKeys: Pick<ClientKeySealer, 'open'>
  readonly client: Pick<GuardedClient, 'get' | 'post' | 'send' | 'inspectTls'>
  readonly encrypter: Encrypter
  readonly tls: TlsIdentities
  /** The fault of an endpoint's URI, in words; null if there is none. */
  targetFault(uri: string, access: NetworkAccess): string | null
  /** The keyed hashes of subjects, which name a subject without revealing it. */
  readonly subjectHash: () => Promise<Pick<SubjectHash, 'of'>>
  now(): Date
}

/** `…/relying-parties/{client_id}/probe`: whether an endpoint accepts valid requests and refuses invalid ones. */
export function registerProbes(server: HttpServer, deps: ProbesDeps): void {
  const { db } = deps
  const probing = createTurns({ ...PROBING, refusal: tooManyProbes })
  server.post(
    PATH,
    {
      config: WRITE,
      schema: {
        operationId: 'probeRelyingParty',
        tags: ['Relying parties'],
        summary:
          "Probe a relying party's endpoint, the registered one or another: send valid and forged requests. They name no real session, unless session is given.",
        params: PartyParams,
        body: ProbeInput,
        response: { 200: Probe },
      },
    },
    async (request) => {
      const { client_id } = request.params
      const { session } = request.body
      if (session !== undefined) mayEndSessions(callerOf(request), request.body)
      const issuer = await issuerOr404(db, request.params.issuer)
      return probing.run(issuer.name, async () => {
        const party = await findRelyingParty(db, { issuer: issuer.name, clientId: client_id })
        const target = await targetOf(request.body, { issuer, clientId: client_id as ClientId, party }, deps)
        return probeView(await probe(target, callerOf(request).name, deps))
      })
    },
  )

  server.put(
    `${PATH}/session`,
    {
      config: WRITE,
      schema: {
        operationId: 'putProbedSession',
        tags: ['Relying parties'],
        summary: 'Store whether the real session of the last probe is over, by the word of its owner.',
        params: PartyParams,
        body: ProbeSessionInput,
        response: { 200: Probe },
      },
    },
    async (request) => {
      const { issuer, client_id: clientId } = request.params
      const { body } = request
      const by = callerOf(request).name
      const changed = await changeLastReport(db, { issuer, clientId }, (probe) =>
        answered(probe, body, { by, at: deps.now() }),
      )
      if (changed !== null) return probeView(changed)
      throw new ProblemError({
        status: 404,
        title: 'No probe',
        detail: `The last probe of ${clientId} at ${issuer} is not ${body.probe}, or it named no real session. Probe the session again.`,
      })
    },
  )

  server.get(
    PATH,
    {
      config: READ,
      schema: {
        operationId: 'getProbe',
        tags: ['Relying parties'],
        summary: 'Get the last probe of a relying party: its report, or its progress.',
        params: PartyParams,
        response: { 200: Probe },
      },
    },
    async ({ params: { issuer, client_id: clientId } }) => {
      const last = await findLastProbe(db, { issuer, clientId })
      if (last !== null) return probeView(last)
      throw new ProblemError({
        status: 404,
        title: 'No probe',
        detail: `The endpoint of ${clientId} at ${issuer} has not been probed. Post a probe first.`,
      })
    },
  )
}

/** Refuses a probe of a real session to a credential that may not log users out. @throws a 403 or 400 problem. */
function mayEndSessions(caller: Credential, { uri }: ProbeInput): void {
  if (!hasScope(caller, 'events:write')) {
    throw new ProblemError({
      status: 403,
      detail: 'A probe with session ends a real session. This needs the scope events:write too.',
      headers: { 'www-authenticate': 'Bearer error="insufficient_scope", scope="events:write"' },
    })
  }
  if (uri !== undefined)
    throw invalid(
      '/uri',
      'must be absent with session: only the registered endpoint gets a token for a real session',
      'body',
    )
}

/** The report with the word of the owner. Null if the probe is another one, or named no real session. */
function answered(
  { id, issuer, clientId, report }: ProbeRecord,
  { probe, over }: ProbeSessionInput,
  { by, at }: { readonly by: string; readonly at: Date },
): ReturnType<Parameters<typeof changeLastReport>[2]> {
  // findingsOf of this or another release wrote it.
  const before = report as ProbeFindings | null
  if (before?.session === undefined || id !== probe) return null
  const session = { ...before.session, over, answered_by: by, answered_at: at.toISOString() }
  const { duration_ms: durationMs, ...rest } = session
  const { durationMs: checkMs, ...check } = sessionCheck({ ...rest, durationMs }, over)
  const checks = before.checks.map((known) =>
    known.id === check.id ? { ...check, duration_ms: checkMs } : known,
  )
  return {
    report: { ...before, ...summaryOf(checks), checks, session },
    audit: {
      credential: by,
      action: 'relying_party.probe_answered',
      object: `/v1/issuers/${issuer}/relying-parties/${encodeURIComponent(clientId)}`,
      detail: { probe, over },
    },
  }
}

function tooManyProbes(why: 'caller' | 'all'): ProblemError {
  const limit = why === 'caller' ? `${PROBING.perCaller} probes of one issuer` : `${PROBING.atOnce} probes`
  return new ProblemError({
    status: 429,
    title: 'Too many probes at once',
    detail: `${limit} are running, which is the limit. Nothing was sent. Send the request again in a moment.`,
    headers: { 'retry-after': '5' },
  })
}

interface Target extends ProbeTarget<EndpointRecord['settings']> {
  readonly kind: string
  readonly issuer: IssuerName
  readonly iss: Issuer
  readonly clientId: ClientId
  /** The address, networks and TLS of the endpoint. */
  readonly peer: TokenReceiver
  /** The TLS identity for the endpoint, with the opened private key. */
  readonly tls: TlsIdentity | null
  /** The signing algorithm; null if the channel signs nothing. */
  readonly algorithm: TokenAlgorithm | null
  /** The sealed secret of the endpoint; null if there is none. */
  readonly sealedSecret: string | null
}

/**
 * The target of a probe. For a registered endpoint it has the client's networks, certificate and secret. For another address it
 * has only the settings that its tokens depend on, so that a probe cannot misuse the others.
 */
async function targetOf(
  { uri: givenUri, channel, id_token_signed_response_alg: givenAlgorithm, timeout_ms, session }: ProbeInput,
  { issuer, clientId, party }: { issuer: IssuerRecord; clientId: ClientId; party: RelyingPartyRecord | null },
  { db, tls, targetFault }: ProbesDeps,
): Promise<Target> {
  const own = givenUri === undefined ? party : null
  const endpoint = own?.endpoints.find(({ kind }) => channel === undefined || kind === channel)
  const uri = givenUri ?? endpoint?.uri
  if (uri === undefined) {
    throw new ProblemError({
      status: 404,
      title: 'Nothing to probe',
      detail: `No endpoint is registered for ${clientId} at ${issuer.name}. Give the address as uri.`,
    })
  }
  const kind = channel ?? (endpoint ?? party?.endpoints[0])?.kind ?? DEFAULT_KIND
  if (!CHANNELS.some((known) => known.kind === kind)) {
    const kinds = CHANNELS.map((known) => known.kind).join(', ')
    throw invalid('/channel', `must be one of ${kinds}`, 'body')
  }
  if (channelOf(kind).mode === 'pull') {
    throw new ProblemError({
      status: 409,
      title: 'Nothing to probe',
      detail: `${clientId} at ${issuer.name} fetches its logouts from the channel ${kind}. Its health shows whether it does.`,
    })
  }
  if (session !== undefined) sessionFaults(session, { kind, settings: endpoint?.settings ?? {} })
  const effective = effectiveSettings(own?.settings ?? {}, issuer.defaults)
  const left = await findNetworkRulesLeft(db, { issuer: issuer.name, clientIds: [clientId] })
  const rule = party?.networkRule ?? left.get(clientId) ?? null
  const ofIssuer = issuerNetworkAccess(networksOf(issuer))
  const access =
    own === null
      ? rule === null
        ? ofIssuer
        : narrowedAccess(ofIssuer, rule.networks)
      : networkAccess({ chosen: own.settings.allowed_networks, rule: own.networkRule }, networksOf(issuer))
  const fault = givenUri === undefined ? null : targetFault(uri, access)
  if (fault !== null) throw invalid('/uri', fault, 'body')
  const registered = registeredUnder(kind, party, issuer)
  const settings = endpoint?.settings ?? registered.settings
  const algorithm = registered.signs === null ? null : (givenAlgorithm ?? settings.algorithm)
  if (algorithm !== null && !isTokenAlgorithm(algorithm))
    throw invalid('/id_token_signed_response_alg', clientAlgorithmFault(algorithm) ?? '', 'body')
  const { iss } = issuer
  const peer = { iss, uri, tls: toTls(own?.settings.tls), ...access }
  return {
    ...{ issuer: issuer.name, iss, clientId, kind, uri, settings, peer },
    algorithm,
    sealedSecret: endpoint?.sealedSecret ?? null,
    tls: await tlsIdentity({ issuer: issuer.name, clientId, tls: peer.tls }, tls),
    timeoutMs: timeout_ms ?? effective.timeout_ms,
    ...(session !== undefined && { session: { sub: session.sub ?? null, sid: session.sid ?? null } }),
  }
}

/** @throws a 400 problem if a probe of the endpoint cannot name the session. */
function sessionFaults(
  { sid }: NonNullable<ProbeInput['session']>,
  { kind, settings }: { kind: string; settings: EndpointRecord['settings'] },
): void {
  const { probe, names } = pushChannelOf(kind)
  if (!probe.namesSessions)
    throw invalid('/session', `must be absent: a probe of the channel ${kind} cannot name a session`, 'body')
  if (names(settings).names === 'session' && sid === undefined)
    throw invalid('/session/sid', 'is required: the relying party requires the session', 'body')
}

function noEncryption(why: string): ProblemError {
  return new ProblemError({
    status: 409,
    title: 'No key to encrypt to',
    detail: `The relying party registered for encrypted tokens, but its tokens cannot be encrypted. ${why}`,
  })
}

/** Encrypts tokens the way deliveries do. @throws a 409 problem if the relying party's keys are unavailable. */
function encryptFor({ peer, tls }: Target, { encrypter }: ProbesDeps): ProbeTools['encrypt'] {
  return async (typ, token, encryption) => {
    try {
      return await encrypter.encrypt(typ, token, encryption, peer, tls)
    } catch (error) {
      if (error instanceof NoEncryptionKeyError) throw noEncryption(`Of its keys, ${error.message}.`)
      if (error instanceof ClientKeysUnavailableError) throw noEncryption(`${sentence(error.message)}.`)
      throw error
    }
  }
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

/** Opens the TLS identity for the endpoint. @throws a 409 problem if its private key cannot be opened. */
async function tlsIdentity(
  owner: Parameters<TlsIdentities>[0],
  tls: TlsIdentities,
): Promise<TlsIdentity | null> {
  return readable('client_key_unreadable', 'Client key unreadable', () => tls(owner))
}

/** Opens the secret of the endpoint. @throws a 409 problem if it cannot be opened, or the endpoint is not registered. */
async function secretOf(target: Target, clientKeys: ProbesDeps['clientKeys']): Promise<string> {
  const { sealedSecret } = target
  if (sealedSecret !== null)
    return readable('secret_unreadable', 'Secret unreadable', () => clientKeys.open(sealedSecret, target))
  throw new ProblemError({
    status: 409,
    title: 'No secret',
    detail: 'Curfew sends the secret only to the registered endpoint. Register this endpoint, then probe it.',
  })
}

/** Signs with the secret of the endpoint. @throws a 409 problem if it is not a private JWK, or as `secretOf` does. */
function assertionFor(target: Target, clientKeys: ProbesDeps['clientKeys']): ProbeTools['assertion'] {
  return async (algorithm, claims) => {
    const secret = await secretOf(target, clientKeys)
    try {
      return await signAssertion(secret, algorithm, claims)
    } catch (error) {
      if (!(error instanceof ClientKeyError)) throw error
      const detail = `${sentence(error.message)}. Register the right secret, then probe again.`
      throw new ProblemError({ status: 409, title: 'Secret unreadable', detail })
    }
  }
}

async function readable<Value>(
  reason: 'client_key_unreadable' | 'secret_unreadable',
  title: string,
  open: () => Promise<Value>,
): Promise<Value> {
  try {
    return await open()
  } catch (error) {
    if (!(error instanceof ClientKeyError)) throw error
    throw new ProblemError({ status: 409, title, detail: deadLetterWords(reason, null).what })
  }
}

/** Makes the function that makes tokens with the key of the issuer. A channel that signs nothing needs no key. */
async function forgeFor({ issuer, algorithm }: Target, keyring: Keyring): Promise<ProbeTools['forge']> {
  if (algorithm === null) return () => Promise.reject(new Error('this channel signs nothing'))
  const signer = await keyring.signer(issuer, algorithm)
  const { keys } = await keyring.jwks(issuer)
  return createProbeTokens(signer, keys.find(({ kid }) => kid === signer.kid) ?? {}).make
}

/** Keyed hashes of the named session for the audit record, which outlives an erasure of the subject. Null without a session. */
async function pseudonymsOf({ iss, session }: Target, { subjectHash }: ProbesDeps) {
  if (session === undefined) return null
  const { sub, sid } = session
  const digest = (await subjectHash()).of('erasures')
  return {
    ...(sub !== null && { subject_digest: digest(JSON.stringify([iss, sub])) }),
    ...(sid !== null && { sid_digest: digest(JSON.stringify([iss, sid])) }),
  }
}

/** Interval of storing the progress, in milliseconds. */
const PROGRESS_MS = 400

/** Runs a probe. @throws a 409 problem if another probe of the client runs. */
async function probe(target: Target, credential: string, deps: ProbesDeps): Promise<ProbeRecord> {
  const { db, keyring, client, clientKeys } = deps
  const { issuer, clientId, uri } = target
  const forge = await forgeFor(target, keyring)
  const id = randomUUID()
  const { probe: ofChannel } = pushChannelOf(target.kind)
  const total = ofChannel.total + (target.session === undefined ? 0 : 1)
  const started = { id, issuer, clientId, kind: target.kind, uri, credential, total }
  const session = await pseudonymsOf(target, deps)
  if ((await startProbe(db, started, session)) === null) {
    throw new ProblemError({
      status: 409,
      title: 'Probe under way',
      detail: `Another probe of ${clientId} at ${issuer} is running. It takes at most a minute. Send the request again after it.`,
    })
  }
  let answered = 0
  const noting = setInterval(() => {
    // A failure only delays the visible progress, and not the report.
    if (answered > 0) progressProbe(db, id, answered).catch(() => undefined)
  }, PROGRESS_MS)
  try {
    const how = { ...accessOf(target.peer), tls: target.tls }
    const { sent, ...report } = await ofChannel.run(target, {
      forge,
      encrypt: encryptFor(target, deps),
      secret: () => secretOf(target, clientKeys),
      assertion: assertionFor(target, clientKeys),
      http: {
        get: (message) => client.get({ ...message, ...how, captureHeaders: true }),
        post: (message) => client.post({ ...message, ...how, captureHeaders: true }),
        send: (message) => client.send({ ...message, ...how, captureHeaders: true }),
        inspectTls: (uri) => client.inspectTls({ uri, ...how }),
      },
      newId: randomUUID,
      onProgress(count) {
        answered = count
      },
    })
    clearInterval(noting)
    const ended = await endProbe(db, { id, sent, report: findingsOf(report) })
    if (ended === null) throw new Error(`the probe ${id} is gone`)
    return ended
  } catch (error) {
    // If the ledger is unavailable, the probe stays as running. Another probe can begin two minutes later.
    await dropProbe(db, id).catch(() => undefined)
    throw error
  } finally {
    clearInterval(noting)
  }
}

function accessOf({ allowedNetworks, grantedNetworks }: TokenReceiver): NetworkAccess {
  return { allowedNetworks, ...(grantedNetworks !== undefined && { grantedNetworks }) }
}

function summaryOf(checks: readonly Pick<ProbeReport['checks'][number], 'level' | 'result'>[]) {
  const count = (result: ProbeReport['checks'][number]['result']) =>
    checks.filter((check) => check.result === result).length
  return {
    passed: count('passed'),
    failed: count('failed'),
    unknown: count('unknown'),
    conformant: checks.every(({ level, result }) => level !== 'must' || result === 'passed'),
  }
}

function findingsOf({ checks, suggestions, session }: ProbeReport): ProbeFindings {
  return {
    ...summaryOf(checks),
    checks: checks.map(({ durationMs, ...check }) => ({ ...check, duration_ms: durationMs })),
    suggestions: suggestions.map(({ value, ...rest }) => ({
      ...rest,
      value: typeof value === 'object' ? [...value] : value,
    })),
    ...(session !== undefined && { session: sessionOf(session) }),
  }
}

function sessionOf({ named, durationMs, ...rest }: SessionAnswer): ProbeSession {
  return {
    ...{ ...rest, named: [...named], duration_ms: durationMs },
    ...{ over: 'unknown', answered_by: null, answered_at: null },
  }
}

function probeView(probe: ProbeRecord): Probe {
  const party = `/v1/issuers/${probe.issuer}/relying-parties/${encodeURIComponent(probe.clientId)}`
  return {
    id: probe.id,
    state: probe.endedAt === null ? 'running' : 'done',
    issuer: probe.issuer,
    client_id: probe.clientId,
    channel: probe.kind,
    uri: probe.uri,
    requested_by: probe.credential,
    started_at: probe.startedAt.toISOString(),
    ended_at: probe.endedAt?.toISOString() ?? null,
    sent: probe.sent,
    total: probe.total,
    // findingsOf of this or another release wrote it.
    report: probe.report as ProbeFindings | null,
    links: { self: `${party}/probe`, relying_party: party },
  }
}
