import { randomUUID } from 'node:crypto'
import {
  CHANNELS,
  channelOf,
  DEFAULT_KIND,
  type ProbeReport,
  type ProbeTarget,
  type ProbeTools,
} from '@curfew/channels'
import { Probe, type ProbeFindings, ProbeInput, type Scope } from '@curfew/contract'
import {
  type ClientId,
  ClientKeyError,
  ClientKeysUnavailableError,
  deadLetterWords,
  type Issuer,
  type IssuerName,
  issuerNetworkAccess,
  type NetworkAccess,
  NoEncryptionKeyError,
  narrowedAccess,
  networkAccess,
  SIGNING_ALGORITHMS,
  type SigningAlgorithm,
} from '@curfew/domain'
import {
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
import { callerOf, createTurns, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { type ClientKeySealer, createProbeTokens, type Keyring } from '@curfew/tokens'
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
  readonly client: Pick<GuardedClient, 'get' | 'post' | 'inspectTls'>
  readonly encrypter: Encrypter
  readonly tls: TlsIdentities
  /** The fault of an endpoint's URI, in words; null if there is none. */
  targetFault(uri: string, access: NetworkAccess): string | null
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
          "Probe a relying party's endpoint, the registered one or another: send valid and forged requests that name no real session.",
        params: PartyParams,
        body: ProbeInput,
        response: { 200: Probe },
      },
    },
    async (request) => {
      const { client_id } = request.params
      const issuer = await issuerOr404(db, request.params.issuer)
      return probing.run(issuer.name, async () => {
        const party = await findRelyingParty(db, { issuer: issuer.name, clientId: client_id })
        const target = await targetOf(request.body, { issuer, clientId: client_id as ClientId, party }, deps)
        return probeView(await probe(target, callerOf(request).name, deps))
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
  readonly algorithm: SigningAlgorithm | null
  /** The sealed secret of the endpoint; null if there is none. */
  readonly sealedSecret: string | null
}

/**
 * The target of a probe. For a registered endpoint it has the client's networks, certificate and secret. For another address it
 * has only the settings that its tokens depend on, so that a probe cannot misuse the others.
 */
async function targetOf(
  { uri: givenUri, channel, id_token_signed_response_alg: givenAlgorithm, timeout_ms }: ProbeInput,
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
  const algorithm = givenAlgorithm ?? settings.algorithm
  if (!isSupported(algorithm)) {
    throw invalid('/id_token_signed_response_alg', `must be one of ${SIGNING_ALGORITHMS.join(', ')}`, 'body')
  }
  const { iss } = issuer
  const peer = { iss, uri, tls: toTls(own?.settings.tls), ...access }
  return {
    ...{ issuer: issuer.name, iss, clientId, kind, uri, settings, peer },
    algorithm: registered.signs === null ? null : algorithm,
    sealedSecret: endpoint?.sealedSecret ?? null,
    tls: await tlsIdentity({ issuer: issuer.name, clientId, tls: peer.tls }, tls),
    timeoutMs: timeout_ms ?? effective.timeout_ms,
  }
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

function isSupported(algorithm: unknown): algorithm is SigningAlgorithm {
  return SIGNING_ALGORITHMS.some((supported) => supported === algorithm)
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

/** Interval of storing the progress, in milliseconds. */
const PROGRESS_MS = 400

/** Runs a probe. @throws a 409 problem if another probe of the client runs. */
async function probe(target: Target, credential: string, deps: ProbesDeps): Promise<ProbeRecord> {
  const { db, keyring, client, clientKeys } = deps
  const { issuer, clientId, uri } = target
  const forge = await forgeFor(target, keyring)
  const id = randomUUID()
  const { probe: ofChannel } = channelOf(target.kind)
  const { total } = ofChannel
  if ((await startProbe(db, { id, issuer, clientId, kind: target.kind, uri, credential, total })) === null) {
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
      http: {
        get: (message) => client.get({ ...message, ...how, captureHeaders: true }),
        post: (message) => client.post({ ...message, ...how, captureHeaders: true }),
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

function findingsOf({ checks, suggestions }: ProbeReport): ProbeFindings {
  const count = (result: ProbeReport['checks'][number]['result']) =>
    checks.filter((check) => check.result === result).length
  return {
    passed: count('passed'),
    failed: count('failed'),
    unknown: count('unknown'),
    conformant: checks.every(({ level, result }) => level !== 'must' || result === 'passed'),
    checks: checks.map(({ durationMs, ...check }) => ({ ...check, duration_ms: durationMs })),
    suggestions: suggestions.map((suggestion) => ({ ...suggestion })),
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
