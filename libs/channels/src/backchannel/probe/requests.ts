import { type Answer, TOKEN_LIFETIME_S, type TokenSignature } from '@curfew/domain'
import type { ProbeLevel } from '../../probe-report.ts'
import { LOGOUT_EVENT_MEMBER } from '../token.ts'

/** Claims of a token of the probe. */
type ProbeClaims = Readonly<Record<string, unknown>>

/**
 * The form of the request. `form` is the correct one (Back-Channel Logout section 2.5). The other names say what is different.
 */
export type ProbeForm =
  | 'form'
  | 'with_charset'
  | 'with_another_field'
  | 'repeated'
  | 'twice_in_one_form'
  | 'query'
  | 'json'
  | 'oversize'
  | 'no_jwt'
  | 'without_token'
  | 'empty'

/** One request of a probe, with the expected answer. Absent members are those of a good logout token. */
export interface ProbeRequest {
  readonly title: string
  readonly level: ProbeLevel
  /** The section of the specification. */
  readonly section: string
  /** The expected answer. `either`: both answers are correct, and the owner may want to know which one it is. */
  readonly expects: 'accepted' | 'refused' | 'either'
  /** Changes the claims of a good token. */
  readonly claims?: (good: ProbeClaims) => ProbeClaims
  /** The changes to the header of a good token; null removes a member. */
  readonly header?: Readonly<Record<string, unknown>> & { readonly typ?: string | null }
  readonly signature?: TokenSignature
  readonly form?: ProbeForm
  /** A sentence about the fault if the answer is not the expected one. */
  readonly wrong: string
  /** How the owner of the endpoint corrects the fault. */
  readonly fix: string
}

/** An answer and its duration. */
export type ProbeAnswer = Answer & { readonly durationMs: number }

/** The subject claims of a good token. */
export type ProbeSubject = 'both' | 'sid' | 'sub'

/** The beginning of names of a subject and a session that exist at no real issuer. */
const UNKNOWN = 'curfew-probe-'

/**
 * The claims of a good logout token (Back-Channel Logout section 2.4) for a subject and a session that do not exist.
 *
 * @param id a new unguessable UUID.
 * @param jti another such UUID.
 */
export function probeClaims({
  iss,
  aud,
  now,
  id,
  jti,
  subject,
}: {
  readonly iss: string
  readonly aud: string
  readonly now: Date
  readonly id: string
  readonly jti: string
  readonly subject: ProbeSubject
}): ProbeClaims {
  const iat = Math.floor(now.getTime() / 1_000)
  return {
    iss,
    aud,
    iat,
    exp: iat + TOKEN_LIFETIME_S,
    jti,
    ...(subject !== 'sid' && { sub: `${UNKNOWN}${id}` }),
    ...(subject !== 'sub' && { sid: `${UNKNOWN}${id}` }),
    events: { [LOGOUT_EVENT_MEMBER]: {} },
  }
}

/** Claims without some members. */
export function without(claims: ProbeClaims, ...names: readonly string[]): ProbeClaims {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !names.includes(name)))
}

/** Whether two texts of answers differ only in the names of the requests. Then the two refusals have the same reason. */
export function sameExceptNames(one: string, other: string): boolean {
  const nameless = (text: string) => text.replaceAll(NAMES, '*')
  return nameless(one) === nameless(other)
}

const NAMES = /(?:curfew-probe-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi

const CLAIMS = 'Let a library for OpenID Connect check all claims of the token that section 2.6 lists.'
const SIGNATURE =
  "Verify the signature with the keys of the issuer's jwks_uri and the registered algorithm of the client. Use nothing from" +
  " the token's header except the kid."
const HOUR_S = 3_600

/**
 * Removes the subject if there is a session. A token without the logout event, or with a nonce, could otherwise pass for an ID
 * token.
 */
function noIdToken(claims: ProbeClaims): ProbeClaims {
  return 'sid' in claims ? without(claims, 'sub') : claims
}

function withEvents(claims: ProbeClaims, events: unknown): ProbeClaims {
  const rest = without(noIdToken(claims), 'events')
  return events === undefined ? rest : { ...rest, events }
}

/** The requests with tokens that a relying party must or should refuse. */
const PROBE_FORGERIES = {
  alg_none: {
    title: 'refuses alg none',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 3; RFC 8725 3.1',
    expects: 'refused',
    signature: 'none',
    wrong: 'An unsigned token (alg none) is accepted: an attacker can log out any user.',
    fix: SIGNATURE,
  },
  alg_none_without_kid: {
    title: 'refuses alg none without kid',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 3; RFC 8725 3.1',
    expects: 'refused',
    signature: 'none',
    header: { kid: null },
    wrong: 'An unsigned token (alg none) without a kid is accepted: an attacker can log out any user.',
    fix: SIGNATURE,
  },
  signature_broken: {
    title: 'refuses a broken signature',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 2',
    expects: 'refused',
    signature: 'corrupted',
    wrong: 'A token with a broken signature is accepted: an attacker can log out any user.',
    fix: SIGNATURE,
  },
  signature_of_another_key: {
    title: "refuses another key under the issuer's kid",
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 2',
    expects: 'refused',
    signature: 'other_key',
    wrong: "A token that another key signed is accepted: only its kid is the issuer's.",
    fix: SIGNATURE,
  },
  kid_unknown: {
    title: 'refuses a key that the issuer does not publish',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 2; OpenID Connect Core 10.1.1',
    expects: 'refused',
    signature: 'other_key',
    header: { kid: 'curfew-probe-no-such-key' },
    wrong: 'A token with the kid of a key that the issuer does not publish is accepted.',
    fix: 'Refuse a token if its kid is still missing after a new fetch of the jwks_uri.',
  },
  key_confusion_pem: {
    title: 'refuses HS256 with the public key (PEM) as the secret',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 3; RFC 8725 2.1, 3.1',
    expects: 'refused',
    signature: 'public_key_pem',
    wrong:
      "A token signed by HMAC with the issuer's public key is accepted: an attacker can log out any user.",
    fix: SIGNATURE,
  },
  key_confusion_jwk: {
    title: 'refuses HS256 with the public key (JWK) as the secret',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 3; RFC 8725 2.1, 3.1',
    expects: 'refused',
    signature: 'public_key_jwk',
    wrong:
      "A token signed by HMAC with the issuer's public JWK is accepted: an attacker can log out any user.",
    fix: SIGNATURE,
  },
  crit: {
    title: 'refuses an unknown critical header',
    level: 'must',
    section: 'RFC 7515 4.1.11; RFC 8725 3.10',
    expects: 'refused',
    header: { crit: ['https://curfew.invalid/probe'], 'https://curfew.invalid/probe': true },
    wrong: 'A token with an unknown critical header (crit) is accepted.',
    fix: 'Refuse a token with crit unless you support every header that it names.',
  },
  issuer_other: {
    title: 'refuses another issuer',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 4',
    expects: 'refused',
    claims: (good) => ({ ...good, iss: 'https://curfew-probe.invalid' }),
    wrong: 'A token of another issuer (iss) is accepted.',
    fix: 'Compare iss with the issuer of your ID tokens, byte for byte.',
  },
  audience_other: {
    title: 'refuses another audience',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 4; RFC 8725 3.9',
    expects: 'refused',
    claims: (good) => ({ ...good, aud: 'curfew-probe-another-client' }),
    wrong:
      'A token for another client (aud) is accepted: any other client can use the tokens that it receives.',
    fix: 'Refuse a token whose aud does not contain your client_id.',
  },
  expired: {
    title: 'refuses a token that has expired',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 4, 4',
    expects: 'refused',
    claims: (good) => ({ ...good, iat: Number(good.iat) - HOUR_S, exp: Number(good.exp) - HOUR_S }),
    wrong: 'A token that expired an hour ago is accepted.',
    fix: 'Compare exp with the clock. A tolerance of a minute or two is enough.',
  },
  exp_missing: {
    title: 'refuses a token without exp',
    level: 'should',
    section: 'Back-Channel Logout 2.4 (errata set 1)',
    expects: 'refused',
    claims: (good) => without(good, 'exp'),
    wrong: 'A token without exp, which never expires, is accepted.',
    fix: 'Require exp. Curfew always sends it. Identity providers from before 2023 may not send it.',
  },
  iat_missing: {
    title: 'refuses a token without iat',
    level: 'should',
    section: 'Back-Channel Logout 2.4',
    expects: 'refused',
    claims: (good) => without(good, 'iat'),
    wrong: 'A token without iat is accepted.',
    fix: 'Require iat.',
  },
  iat_future: {
    title: 'refuses a token from the future',
    level: 'may',
    section: 'Back-Channel Logout 2.6 step 4; OpenID Connect Core 3.1.3.7',
    expects: 'refused',
    claims: (good) => ({ ...good, iat: Number(good.iat) + HOUR_S, exp: Number(good.exp) + HOUR_S }),
    wrong: 'A token whose iat is an hour ahead is accepted.',
    fix: 'Refuse an iat that is further ahead than clocks may differ.',
  },
  jti_missing: {
    title: 'refuses a token without jti',
    level: 'should',
    section: 'Back-Channel Logout 2.4',
    expects: 'refused',
    claims: (good) => without(good, 'jti'),
    wrong: 'A token without jti is accepted.',
    fix: 'Require jti. Without it a repeated token looks like a new one.',
  },
  events_missing: {
    title: 'refuses a token without events, such as an ID token',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 6',
    expects: 'refused',
    claims: (good) => withEvents(good, undefined),
    wrong: 'A token without events is accepted: an ID token would pass for a logout token.',
    fix: CLAIMS,
  },
  events_other: {
    title: 'refuses a token of another event',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 6',
    expects: 'refused',
    claims: (good) => withEvents(good, { 'https://curfew.invalid/event/another': {} }),
    wrong: 'A token of another event is accepted.',
    fix: `Require the member ${LOGOUT_EVENT_MEMBER} in events.`,
  },
  events_no_object: {
    title: 'refuses events that are not an object',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 6',
    expects: 'refused',
    claims: (good) => withEvents(good, [LOGOUT_EVENT_MEMBER]),
    wrong: 'A token whose events are a list is accepted.',
    fix: `Require that events is a JSON object with the member ${LOGOUT_EVENT_MEMBER}.`,
  },
  nonce: {
    title: 'refuses a token with a nonce',
    level: 'must',
    section: 'Back-Channel Logout 2.4, 2.6 step 7',
    expects: 'refused',
    claims: (good) => ({ ...noIdToken(good), nonce: good.jti }),
    wrong: 'A token with a nonce is accepted.',
    fix: 'Refuse a token with any nonce. The missing nonce distinguishes logout tokens from ID tokens.',
  },
  no_subject: {
    title: 'refuses a token with neither sub nor sid',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 5',
    expects: 'refused',
    claims: (good) => without(good, 'sub', 'sid'),
    wrong: 'A token without a subject and a session is accepted.',
    fix: CLAIMS,
  },
  replayed: {
    title: 'refuses the same token a second time',
    level: 'may',
    section: 'Back-Channel Logout 2.6 step 8',
    expects: 'refused',
    form: 'repeated',
    wrong: 'The same token (jti) is accepted twice. This check is optional for the relying party.',
    fix: 'Keep each jti until its exp has passed, and refuse it the second time. Curfew never sends a jti twice.',
  },
} as const satisfies Readonly<Record<string, ProbeRequest>>

const FORM =
  'Read logout_token from a POST of application/x-www-form-urlencoded, and answer 400 if it is missing.'

/** All requests of a probe, in the order of sending. The first ones show which good tokens the endpoint accepts. */
export const PROBE_REQUESTS = {
  good_token: {
    title: 'accepts a good token (sub and sid)',
    level: 'must',
    section: 'Back-Channel Logout 2.6, 2.8',
    expects: 'accepted',
    wrong: 'A good logout token is refused.',
    fix: "Find the reason in its log. Frequent reasons are an old copy of the issuer's keys, a wrong clock, or another expected issuer, audience or algorithm. If it refuses subjects without a session, make it answer 200 to them.",
  },
  sid_only: {
    title: 'accepts a token with sid alone',
    level: 'should',
    section: 'Back-Channel Logout 2.4, 2.6 step 5',
    expects: 'accepted',
    claims: (good) => without(good, 'sub'),
    wrong: 'A token with sid alone is refused.',
    fix: 'Find the session by iss and sid if there is no sub.',
  },
  sub_only: {
    title: 'accepts a token with sub alone',
    level: 'should',
    section: 'Back-Channel Logout 2.4, 2.6 step 5',
    expects: 'accepted',
    claims: (good) => without(good, 'sid'),
    wrong: 'A token with sub alone is refused, so a logout cannot end all sessions of a user.',
    fix: 'End every session of iss and sub if there is no sid. Or register backchannel_logout_session_required true.',
  },
  more_claims: {
    title: 'ignores unknown claims',
    level: 'must',
    section: 'Back-Channel Logout 2.4',
    expects: 'accepted',
    claims: (good) => ({ ...good, txn: good.jti, 'https://curfew.invalid/probe': { ignored: true } }),
    wrong: 'A good token with an additional claim is refused.',
    fix: 'Ignore unknown claims. Curfew itself sends txn.',
  },
  audience_list: {
    title: 'accepts the audience as a list of one',
    level: 'should',
    section: 'Back-Channel Logout 2.4; OpenID Connect Core 2',
    expects: 'accepted',
    claims: (good) => ({ ...good, aud: [good.aud] }),
    wrong:
      'A good token whose aud is a list with the client_id is refused. Curfew sends a text, but other senders may send a list.',
    fix: 'Accept aud as a text or as a list that contains the client_id.',
  },
  typ_logout_jwt: {
    title: 'may accept typ logout+jwt',
    level: 'informs',
    section: 'Back-Channel Logout 2.4',
    expects: 'either',
    header: { typ: 'logout+jwt' },
    wrong: 'It refuses typ logout+jwt, which the specification recommends.',
    fix: 'Let it accept typ logout+jwt, which distinguishes a logout token from every other token.',
  },
  typ_jwt: {
    title: 'may accept typ JWT',
    level: 'informs',
    section: 'Back-Channel Logout 2.4, 4.1',
    expects: 'either',
    header: { typ: 'JWT' },
    wrong: 'It refuses typ JWT, which many identity providers send.',
    fix: 'If the endpoint must accept tokens of those identity providers too, let it accept typ JWT.',
  },
  typ_missing: {
    title: 'may accept a token without typ',
    level: 'informs',
    section: 'Back-Channel Logout 2.4, 4.1',
    expects: 'either',
    header: { typ: null },
    wrong: 'It requires a typ. Many identity providers send none.',
    fix: 'If the endpoint must accept tokens of those identity providers too, let it accept tokens without typ.',
  },
  more_fields: {
    title: 'ignores unknown form fields',
    level: 'must',
    section: 'Back-Channel Logout 2.5',
    expects: 'accepted',
    form: 'with_another_field',
    wrong: 'A good token in a form with an additional field is refused.',
    fix: 'Ignore unknown form fields.',
  },
  charset: {
    title: 'accepts a form whose media type has a charset',
    level: 'should',
    section: 'Back-Channel Logout 2.5; RFC 9110 8.3.1',
    expects: 'accepted',
    form: 'with_charset',
    wrong: 'A good token is refused if the Content-Type is application/x-www-form-urlencoded; charset=utf-8.',
    fix: 'Compare the media type without its parameters.',
  },

  ...PROBE_FORGERIES,

  no_jwt: {
    title: 'refuses a text that is not a token',
    level: 'must',
    section: 'Back-Channel Logout 2.6, 2.8',
    expects: 'refused',
    form: 'no_jwt',
    wrong: 'A text that is not a token is accepted.',
    fix: 'Answer 400 to an unreadable token.',
  },
  no_token: {
    title: 'refuses a form without logout_token',
    level: 'must',
    section: 'Back-Channel Logout 2.5, 2.8',
    expects: 'refused',
    form: 'without_token',
    wrong: 'A form without logout_token is answered like a successful logout.',
    fix: FORM,
  },
  no_body: {
    title: 'refuses a POST without a body',
    level: 'must',
    section: 'Back-Channel Logout 2.5, 2.8',
    expects: 'refused',
    form: 'empty',
    wrong: 'A POST without a body is answered like a successful logout.',
    fix: FORM,
  },
  get: {
    title: 'refuses GET',
    level: 'should',
    section: 'Back-Channel Logout 2.5',
    expects: 'refused',
    form: 'query',
    wrong:
      'A good token in the query of a GET is accepted. Queries are stored in logs, and an attacker can plant links.',
    fix: 'Answer 405 to every method except POST.',
  },
  json: {
    title: 'refuses a JSON body',
    level: 'should',
    section: 'Back-Channel Logout 2.5',
    expects: 'refused',
    form: 'json',
    wrong: 'A good token in a JSON body is accepted.',
    fix: FORM,
  },
  two_tokens: {
    title: 'refuses a form with two logout_token',
    level: 'informs',
    section: 'none; RFC 6749 3.2 requires it for OAuth forms',
    expects: 'refused',
    form: 'twice_in_one_form',
    wrong: 'A form with two logout_token is accepted, and it is undefined which of them counts.',
    fix: 'Refuse a repeated field.',
  },
  oversize: {
    title: 'refuses a token of 1 MiB in time',
    level: 'should',
    section: 'none; RFC 9110 15.5.14 has a status for it (413)',
    expects: 'refused',
    form: 'oversize',
    wrong: 'A body of 1 MiB is not refused in time: a few of them can stop the endpoint.',
    fix: 'Read at most about 16 KiB of a body, then answer 413.',
  },
} as const satisfies Readonly<Record<string, ProbeRequest>>

export type ProbeRequestId = keyof typeof PROBE_REQUESTS

/** The request of an id, typed as `ProbeRequest`: absent members are `undefined`. */
export function probeRequest(id: ProbeRequestId): ProbeRequest {
  return PROBE_REQUESTS[id]
}

export const PROBE_REQUEST_IDS = Object.keys(PROBE_REQUESTS) as readonly ProbeRequestId[]
