import { type Answer, errorTextOf, NETWORK, type TokenSignature } from '@curfew/domain'
import type { ProbeTarget, ProbeTools } from '../channel.ts'
import { withoutCredential } from '../credential.ts'
import {
  inWords,
  isBusy,
  type ProbeCheck,
  type ProbeReport,
  type ProbeSuggestion,
  signerFailure,
} from '../probe-report.ts'
import { bodyOf, CREDENTIAL_TYPE, type CredentialClaims, credentialClaims, headersOf } from './request.ts'
import type { GlobalRevocationSettings } from './settings.ts'
import { misconfiguredFix } from './words.ts'

type Target = ProbeTarget<GlobalRevocationSettings>

/** One request of a probe. Absent members are those of a good request. */
interface ProbeRequest extends Pick<ProbeCheck, 'id' | 'title' | 'level' | 'section'> {
  /** `accepted`: a status of success, or 404, because the user does not exist. */
  readonly expects: 'accepted' | 'refused'
  /** Only if the credential is a signed JWT. */
  readonly signature?: TokenSignature
  readonly claims?: (good: CredentialClaims) => CredentialClaims
  /** The credential of the request; null for none. If absent: a good credential, with the changes of `signature` and `claims`. */
  readonly credential?: string | null
  readonly method?: 'get'
  readonly body?: string
  readonly wrong: string
  readonly fix: string
}

const REVOKES = 'an attacker can end the sessions of any user'
const VERIFY =
  "Verify the credential with the keys of the issuer's jwks_uri, and use nothing from its header except the kid."
const READ = 'Answer 400 to a body that does not name a user in a format that you know.'
const HOUR_S = 3_600

export const PROBE_REQUESTS: readonly ProbeRequest[] = [
  {
    ...{ id: 'good_request', title: 'accepts a good request', level: 'must' },
    ...{ section: 'Global Token Revocation 3.4', expects: 'accepted' },
    wrong: 'A good request is refused.',
    fix: 'Find the reason in its log.',
  },
  {
    ...{ id: 'no_credential', title: 'refuses a request without a credential', level: 'must' },
    ...{ section: 'Global Token Revocation 3.2', expects: 'refused', credential: null },
    wrong: `A request without a credential is accepted: ${REVOKES}.`,
    fix: 'Answer 401 to a request without a credential.',
  },
  {
    ...{ id: 'wrong_credential', title: 'refuses a credential that it does not know', level: 'must' },
    ...{ section: 'Global Token Revocation 3.2', expects: 'refused', credential: 'curfew-probe' },
    wrong: `A request with an unknown bearer token is accepted: ${REVOKES}.`,
    fix: 'Answer 401 to a credential that you do not know.',
  },
  {
    ...{ id: 'alg_none', title: 'refuses alg none', level: 'must' },
    ...{ section: 'RFC 8725 3.1', expects: 'refused', signature: 'none' },
    wrong: `An unsigned credential (alg none) is accepted: ${REVOKES}.`,
    fix: VERIFY,
  },
  {
    ...{ id: 'signature_broken', title: 'refuses a broken signature', level: 'must' },
    ...{ section: 'RFC 7515 5.2', expects: 'refused', signature: 'corrupted' },
    wrong: `A credential with a broken signature is accepted: ${REVOKES}.`,
    fix: VERIFY,
  },
  {
    ...{ id: 'signature_of_another_key', title: "refuses another key under the issuer's kid", level: 'must' },
    ...{ section: 'RFC 7515 5.2', expects: 'refused', signature: 'other_key' },
    wrong: `A credential that another key signed is accepted: ${REVOKES}.`,
    fix: VERIFY,
  },
  {
    ...{ id: 'key_confusion', title: 'refuses HS256 with the public key as the secret', level: 'must' },
    ...{ section: 'RFC 8725 2.1, 3.1', expects: 'refused', signature: 'public_key_pem' },
    wrong: `A credential signed by HMAC with the issuer's public key is accepted: ${REVOKES}.`,
    fix: VERIFY,
  },
  {
    ...{ id: 'audience_other', title: 'refuses another audience', level: 'must' },
    ...{ section: 'RFC 8725 3.9; Okta Universal Logout', expects: 'refused' },
    claims: (good) => ({ ...good, aud: 'https://curfew-probe.invalid/' }),
    wrong:
      'A credential for another endpoint (aud) is accepted: any other relying party can use the credentials that it receives.',
    fix: 'Refuse a credential whose aud is not the address of this endpoint.',
  },
  {
    ...{ id: 'issuer_other', title: 'refuses another issuer', level: 'must' },
    ...{ section: 'RFC 8725 3.8; Okta Universal Logout', expects: 'refused' },
    claims: (good) => ({ ...good, iss: 'https://curfew-probe.invalid' }),
    wrong: 'A credential of another issuer (iss) is accepted.',
    fix: 'Compare iss with the issuer of your ID tokens, byte for byte.',
  },
  {
    ...{ id: 'expired', title: 'refuses a credential that has expired', level: 'must' },
    ...{ section: 'RFC 7519 4.1.4', expects: 'refused' },
    claims: (good) => ({ ...good, iat: good.iat - HOUR_S, nbf: good.nbf - HOUR_S, exp: good.exp - HOUR_S }),
    wrong: 'A credential that expired an hour ago is accepted.',
    fix: 'Compare exp with the clock. A tolerance of a minute or two is enough.',
  },
  {
    ...{ id: 'no_json', title: 'refuses a body that is not JSON', level: 'should' },
    ...{ section: 'Global Token Revocation 3.1, 3.4.2', expects: 'refused', body: 'curfew-probe' },
    wrong: 'A body that is not JSON is answered as if tokens had been revoked.',
    fix: READ,
  },
  {
    ...{ id: 'no_subject', title: 'refuses a body without a user', level: 'should' },
    ...{ section: 'Global Token Revocation 3.1, 3.4.2', expects: 'refused', body: '{}' },
    wrong: 'A body without a user is answered as if tokens had been revoked.',
    fix: READ,
  },
  {
    ...{ id: 'get', title: 'refuses GET', level: 'should' },
    ...{ section: 'Global Token Revocation 3.1', expects: 'refused', method: 'get' },
    wrong: 'A GET is answered as if tokens had been revoked.',
    fix: 'Answer anything but POST with 405.',
  },
]

/** The probe starts requests for this time, in milliseconds. */
const PROBE_MS_MAX = 45_000
/** The limit for one request, in milliseconds. */
const REQUEST_MS_MAX = 10_000

type Seen = Answer & { readonly durationMs: number }

/** Sends requests for a user that does not exist, one after the other. See `Probe`. */
export async function runProbe(target: Target, tools: ProbeTools): Promise<ProbeReport & { sent: number }> {
  const endsAtMs = performance.now() + PROBE_MS_MAX
  const seen = new Map<string, Seen>()
  for (const request of requestsFor(target.settings)) {
    if (performance.now() > endsAtMs) break
    seen.set(request.id, await ask(request, target, tools))
    tools.onProgress(seen.size)
    const first = seen.get('good_request')
    if (first?.kind !== 'response') break
  }
  return { ...report(seen, target), sent: seen.size }
}

/** The requests for an endpoint. Without a signed JWT as the credential there are no forged ones. */
function requestsFor({ credential }: GlobalRevocationSettings): readonly ProbeRequest[] {
  if (credential === 'signed_jwt') return PROBE_REQUESTS
  return PROBE_REQUESTS.filter(({ signature, claims }) => signature === undefined && claims === undefined)
}

async function ask(request: ProbeRequest, target: Target, tools: ProbeTools): Promise<Seen> {
  const { method, body = bodyOf(unknownUser(target, tools.newId()), target.settings) } = request
  let credential = request.credential
  if (credential === undefined && target.settings.credential === 'bearer') credential = await tools.secret()
  try {
    if (credential === undefined) credential = await forgeFor(request, target, tools)
  } catch (error) {
    return { ...signerFailure(error), durationMs: 0 }
  }
  const { authorization, ...rest } = headersOf(credential ?? '')
  const headers = credential === null ? rest : { ...rest, authorization: authorization ?? '' }
  const message = { uri: target.uri, headers, timeoutMs: Math.min(target.timeoutMs, REQUEST_MS_MAX) }
  const startedMs = performance.now()
  const answer =
    method === 'get' ? await tools.http.get(message) : await tools.http.post({ ...message, body })
  const durationMs = Math.round(performance.now() - startedMs)
  return { ...withoutCredential(answer, credential), durationMs }
}

function forgeFor(
  { claims = (good) => good, signature }: ProbeRequest,
  { iss, uri, clientId, settings }: Target,
  { forge, newId }: ProbeTools,
): Promise<string> {
  const good = credentialClaims({ iss, app: settings.app ?? clientId, uri, now: new Date(), jti: newId() })
  return forge(CREDENTIAL_TYPE, { ...claims(good) }, { signature })
}

/** The identifier of a user that does not exist, in the format of the endpoint. */
function unknownUser({ iss, settings: { subject } }: Target, id: string): object {
  const name = `curfew-probe-${id}`
  if (subject === 'email') return { format: 'email', email: `${name}@curfew.invalid` }
  return subject === 'opaque' ? { format: 'opaque', id: name } : { format: 'iss_sub', iss, sub: name }
}

function report(seen: ReadonlyMap<string, Seen>, { uri, settings }: Target): ProbeReport {
  const facts = { uri, settings, seen }
  const checks = requestsFor(settings).map((request): ProbeCheck => {
    const { id, title, level, section } = request
    const answer = seen.get(id)
    return {
      ...{ id, title, level, section },
      ...(request.expects === 'accepted'
        ? judgeAccepted(request, answer, facts)
        : judgeRefused(request, answer, facts)),
      status: statusOf(answer),
      durationMs: answer?.durationMs ?? null,
    }
  })
  return { checks, suggestions: suggestionsOf(seen.get('good_request'), settings) }
}

type Finding = Pick<ProbeCheck, 'result' | 'what' | 'fix'>

interface Facts {
  readonly uri: string
  readonly settings: GlobalRevocationSettings
  readonly seen: ReadonlyMap<string, Seen>
}

const NOT_SENT: Finding = { result: 'unknown', what: 'It was not sent.', fix: null }

function statusOf(answer: Seen | undefined): number | null {
  return answer?.kind === 'response' ? answer.status : null
}

/** Whether an answer means that the relying party does not know the user. */
function isUnknownUser(answer: Seen | undefined, { unknown_user }: GlobalRevocationSettings): boolean {
  return unknown_user === 'acknowledged' && statusOf(answer) === 404
}

function judgeAccepted(
  { wrong, fix }: ProbeRequest,
  answer: Seen | undefined,
  { uri, settings, seen }: Facts,
): Finding {
  if (answer === undefined) return NOT_SENT
  const what = `It ${inWords(answer)}.`
  if (answer.kind !== 'response') {
    const networkFix = answer.kind === 'failure' ? NETWORK[answer.failure]?.fix : undefined
    return {
      result: 'failed',
      what: `${wrong} ${what}`,
      fix: networkFix ?? 'Check that the endpoint answers.',
    }
  }
  if (settings.success.includes(answer.status)) return { result: 'passed', what, fix: null }
  if (!isUnknownUser(answer, settings))
    return {
      result: 'failed',
      what: `${wrong} ${what}`,
      fix: `${misconfiguredFix(answer.status, { uri, location: errorTextOf(answer).location ?? null })} ${fix}`,
    }
  if (asksForCredential(seen)) return { result: 'passed', what, fix: null }
  return { result: 'unknown', what: `${what} An address without an endpoint answers the same.`, fix: null }
}

function judgeRefused(request: ProbeRequest, answer: Seen | undefined, { settings, seen }: Facts): Finding {
  if (answer === undefined) return NOT_SENT
  const what = `It ${inWords(answer)}.`
  if (answer.kind !== 'response' || isBusy(answer.status)) return { result: 'unknown', what, fix: null }
  const good = seen.get('good_request')
  const asUnknown = isUnknownUser(good, settings) && isUnknownUser(answer, settings)
  // An endpoint that answers "unknown user" has accepted the credential, because it refuses a request without one.
  const looked = asUnknown && isForged(request) && asksForCredential(seen)
  if ((answer.status >= 200 && answer.status < 300) || looked)
    return { result: 'failed', what: `${request.wrong} ${what}`, fix: request.fix }
  if (asUnknown && !asksForCredential(seen))
    return { result: 'unknown', what: `${what} A good request gets the same answer.`, fix: null }
  const accepted = isUnknownUser(good, settings) || settings.success.includes(statusOf(good) ?? 0)
  return accepted
    ? { result: 'passed', what, fix: null }
    : { result: 'unknown', what: `${what} But it refuses a good request too.`, fix: null }
}

/** Whether the endpoint must refuse the credential of a request. */
function isForged({ credential, signature, claims }: ProbeRequest): boolean {
  return credential !== undefined || signature !== undefined || claims !== undefined
}

/** Whether the endpoint answers 401 or 403 without a credential. An address without an endpoint answers 404 to everything. */
function asksForCredential(seen: Facts['seen']): boolean {
  const status = statusOf(seen.get('no_credential'))
  return status === 401 || status === 403
}

function suggestionsOf(
  good: Seen | undefined,
  { success }: GlobalRevocationSettings,
): readonly ProbeSuggestion[] {
  if (good?.kind !== 'response' || success.includes(good.status)) return []
  if (good.status !== 200 && good.status !== 202) return []
  return [
    {
      setting: 'curfew.channels.global_revocation.success',
      value: good.status,
      why: `It answers ${good.status} to a good request, and the draft does not have this status. Add it to the statuses that mean that the revocation has begun.`,
    },
  ]
}
