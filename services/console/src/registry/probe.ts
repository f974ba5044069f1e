import { randomUUID } from 'node:crypto'
import { channelOf, DEFAULT_KIND, type ProbeReport, type ProbeTarget } from '@curfew/channels'
import { Probe, type ProbeFindings, ProbeInput, type Scope } from '@curfew/contract'
import {
  type ClientId,
  ClientKeyError,
  deadLetterWords,
  type IssuerName,
  issuerNetworkAccess,
  type NetworkAccess,
  NoEncryptionKeyError,
  narrowedAccess,
  networkAccess,
  SIGNING_ALGORITHMS,
  type SigningAlgorithm,
  type TokenEncryption,
} from '@curfew/domain'
import {
  type Database,
  dropProbe,
  endProbe,
  findLastProbe,
  findNetworkRulesLeft,
  findRelyingParty,
  type IssuerRecord,
  type ProbeRecord,
  progressProbe,
  type RelyingPartyRecord,
  type StoredTls,
  startProbe,
  toEncryption,
} from '@curfew/ledger'
import { fetchJson, type GuardedClient, type TlsIdentity } from '@curfew/outbound'
import { callerOf, createTurns, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import {
  type ClientKeySealer,
  createProbeTokens,
  encryptToken,
  type Keyring,
  type ProbeTokens,
} from '@curfew/tokens'
import { invalid } from '../http/query.ts'
import { issuerOr404 } from './issuers.ts'
import { networksOf } from './networks.ts'
import { PartyParams } from './relying-parties.ts'

const READ = { scope: 'clients:read', reach: 'path' } satisfies RouteAccess<Scope>
/** It sends some 40 requests. */
const WRITE = { scope: 'clients:write', reach: 'path', cost: 50 } satisfies RouteAccess<Scope>
/** Probes that run at once in this process: each signs some 40 tokens, and holds as many connections. None waits. */
const PROBING = { ofCaller: 2, waitingOfCaller: 0, atOnce: 4 }
const PATH = '/v1/issuers/:issuer/relying-parties/:client_id/probe'

export interface ProbesDeps {
  readonly db: Database
  readonly keyring: Keyring
  readonly clientKeys: Pick<ClientKeySealer, 'open'>
  readonly client: Pick<GuardedClient, 'get' | 'post' | 'inspectTls'>
  /** What is wrong with an endpoint's URI, in words, or null. */
  targetFault(uri: string, access: NetworkAccess): string | null
}

/** `…/relying-parties/{client_id}/probe`: whether an endpoint takes what it must, and refuses what it must. */
export function registerProbes(server: HttpServer, deps: ProbesDeps): void {
  const { db } = deps
  const probing = createTurns({ ...PROBING, refusal: tooManyProbes })
  server.post(
    PATH,
    {
      config: WRITE,
      schema: {
        summary:
          "Send a relying party's endpoint, registered or named here, the tokens that it must take and must refuse, none for a real session.",
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
        summary: 'The last probe of a relying party: its report, or how far it has got.',
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
        detail: `The endpoint of ${clientId} at ${issuer} has not been probed.`,
      })
    },
  )
}

function tooManyProbes(why: 'caller' | 'all'): ProblemError {
  const most = why === 'caller' ? `${PROBING.ofCaller} probes of one issuer` : `${PROBING.atOnce} probes`
  return new ProblemError({
    status: 429,
    title: 'Too many probes at once',
    detail: `At most ${most} run at once, and so many do. Nothing was sent. Ask again in a moment.`,
    headers: { 'retry-after': '5' },
  })
}

interface Target extends ProbeTarget {
  readonly kind: string
  /** The networks that it may live at. */
  readonly access: NetworkAccess
  readonly tls: TlsIdentity | null
  readonly issuer: IssuerName
  readonly clientId: ClientId
  readonly algorithm: SigningAlgorithm
  /** To whose key its tokens are encrypted; null: they are signed only. */
  readonly encryption: Pick<TokenEncryption, 'alg' | 'enc' | 'jwks'> | null
}

/**
 * Where to, and how. An endpoint that is merely named gets nothing of what the client registered but its algorithms: neither
 * the networks that it may live at nor our certificate for it.
 */
async function targetOf(
  { uri: named, id_token_signed_response_alg: givenAlgorithm, timeout_ms }: ProbeInput,
  { issuer, clientId, party }: { issuer: IssuerRecord; clientId: ClientId; party: RelyingPartyRecord | null },
  { db, client, clientKeys, targetFault }: ProbesDeps,
): Promise<Target> {
  const own = named === undefined ? party : null
  const [endpoint] = own?.endpoints ?? []
  const uri = named ?? endpoint?.uri
  if (uri === undefined) {
    throw new ProblemError({
      status: 404,
      title: 'Nothing to probe',
      detail: `No endpoint is registered for ${clientId} at ${issuer.name}. Name one: uri.`,
    })
  }
  const settings = { ...issuer.defaults, ...own?.settings }
  const left = await findNetworkRulesLeft(db, { issuer: issuer.name, clientIds: [clientId] })
  const rule = party?.networkRule ?? left.get(clientId) ?? null
  const ofIssuer = issuerNetworkAccess(networksOf(issuer))
  const access =
    own === null
      ? rule === null
        ? ofIssuer
        : narrowedAccess(ofIssuer, rule.networks)
      : partyAccess(own, issuer)
  const fault = named === undefined ? null : targetFault(uri, access)
  if (fault !== null) throw invalid('/uri', fault, 'body')
  const algorithm = givenAlgorithm ?? party?.algorithm ?? 'RS256'
  if (!isSupported(algorithm)) {
    throw invalid('/id_token_signed_response_alg', `must be one of ${SIGNING_ALGORITHMS.join(', ')}`, 'body')
  }
  return {
    issuer: issuer.name,
    iss: issuer.iss,
    clientId,
    kind: endpoint?.kind ?? DEFAULT_KIND,
    uri,
    algorithm,
    encryption: await encryptionOf(party, { client, issuer }),
    access,
    tls: await tlsIdentity(own?.settings.tls, { issuer: issuer.name, clientId }, clientKeys),
    settings: {
      subjectClaims: settings.subject_claims ?? 'both',
      sessionRequired: party?.sessionRequired === true,
      timeoutMs: timeout_ms ?? settings.timeout_ms ?? 10_000,
    },
  }
}

/** The networks that a registered relying party may live at. */
function partyAccess({ settings, networkRule }: RelyingPartyRecord, issuer: IssuerRecord): NetworkAccess {
  return networkAccess({ chosen: settings.allowed_networks, rule: networkRule }, networksOf(issuer))
}

/** @throws a 409 problem where it registered for encrypted tokens, and its keys cannot be had. */
async function encryptionOf(
  party: RelyingPartyRecord | null,
  { client, issuer }: { client: ProbesDeps['client']; issuer: IssuerRecord },
): Promise<Target['encryption']> {
  const encryption = toEncryption(party?.encryption ?? null)
  if (encryption?.jwksUri == null) return encryption
  if (party === null) return encryption
  const fetched = await fetchJson(client, encryption.jwksUri, partyAccess(party, issuer))
  if (fetched.ok) return { ...encryption, jwks: fetched.value }
  throw noEncryption(`Its jwks_uri ${fetched.detail}.`)
}

function noEncryption(why: string): ProblemError {
  return new ProblemError({
    status: 409,
    title: 'No key to encrypt to',
    detail: `It registered for encrypted tokens, and cannot be sent any. ${why}`,
  })
}

/** The same tokens, encrypted where the relying party registered for that. */
function encrypted(tokens: ProbeTokens, { encryption, iss }: Target): ProbeTokens {
  if (encryption === null) return tokens
  return {
    async make(typ, claims, how) {
      const token = await tokens.make(typ, claims, how)
      try {
        return await encryptToken(token, { ...encryption, iss, typ })
      } catch (error) {
        if (error instanceof NoEncryptionKeyError) throw noEncryption(`Of its keys, ${error.message}.`)
        throw error
      }
    },
  }
}

function isSupported(algorithm: unknown): algorithm is SigningAlgorithm {
  return SIGNING_ALGORITHMS.some((supported) => supported === algorithm)
}

async function tlsIdentity(
  { ca, client_certificate: certificate, sealed_client_key: sealedKey }: StoredTls = {},
  owner: { issuer: IssuerName; clientId: ClientId },
  clientKeys: ProbesDeps['clientKeys'],
): Promise<TlsIdentity | null> {
  if (certificate === undefined || sealedKey === undefined)
    return ca === undefined ? null : { ca, client: null }
  try {
    return { ca: ca ?? null, client: { certificate, key: await clientKeys.open(sealedKey, owner) } }
  } catch (error) {
    if (!(error instanceof ClientKeyError)) throw error
    const { what } = deadLetterWords('client_key_unreadable', null)
    throw new ProblemError({ status: 409, title: 'Client key unreadable', detail: what })
  }
}

/** How often the progress is written down, in milliseconds. */
const PROGRESS_MS = 400

/** @throws a 409 problem where one is under way. */
async function probe(
  target: Target,
  credential: string,
  { db, keyring, client }: ProbesDeps,
): Promise<ProbeRecord> {
  const { issuer, clientId, uri, algorithm } = target
  const signer = await keyring.signer(issuer, algorithm)
  const { keys } = await keyring.jwks(issuer)
  const publicJwk = keys.find(({ kid }) => kid === signer.kid) ?? {}
  const id = randomUUID()
  const { probe: ofChannel } = channelOf(target.kind)
  const { total } = ofChannel
  if ((await startProbe(db, { id, issuer, clientId, uri, credential, total })) === null) {
    throw new ProblemError({
      status: 409,
      title: 'Probe under way',
      detail: `Another probe of ${clientId} at ${issuer} is under way; it takes a minute at most.`,
    })
  }
  let answered = 0
  const noting = setInterval(() => {
    // Who watches sees it a little later; the report comes all the same.
    if (answered > 0) progressProbe(db, id, answered).catch(() => undefined)
  }, PROGRESS_MS)
  try {
    const tokens = encrypted(createProbeTokens(signer, publicJwk), target)
    const how = { ...target.access, tls: target.tls }
    const { sent, ...report } = await ofChannel.run(target, {
      forge: tokens.make,
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
    // Left as it is where the ledger is away: another may begin in two minutes.
    await dropProbe(db, id).catch(() => undefined)
    throw error
  } finally {
    clearInterval(noting)
  }
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
    uri: probe.uri,
    requested_by: probe.credential,
    started_at: probe.startedAt.toISOString(),
    ended_at: probe.endedAt?.toISOString() ?? null,
    sent: probe.sent,
    total: probe.total,
    // It was written by findingsOf, by this release or another.
    report: probe.report as ProbeFindings | null,
    links: { self: `${party}/probe`, relying_party: party },
  }
}
