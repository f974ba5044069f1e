import { type Answer, TOKEN_LIFETIME_S, type TokenSignature } from '@curfew/domain'
import type { ProbeLevel } from '../../probe-report.ts'
import { LOGOUT_EVENT_MEMBER } from '../token.ts'

/** Claims of a token that a probe sends; good ones until a check changes them. */
type ProbeClaims = Readonly<Record<string, unknown>>

/** How the token is sent. `form` is the right one (Back-Channel Logout 2.5), the others say what is different. */
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

/** One request of a probe, and what should come of it. What is left out is as a good logout token has it. */
export interface ProbeRequest {
  readonly title: string
  readonly level: ProbeLevel
  /** Where the specification says so. */
  readonly section: string
  /** `either`: nobody is wrong here, and which it is, is worth knowing. */
  readonly expects: 'taken' | 'refused' | 'either'
  /** What is different about the claims. */
  readonly claims?: (good: ProbeClaims) => ProbeClaims
  /** What is different about the token's header; null takes a member away. */
  readonly header?: Readonly<Record<string, unknown>>
  readonly signature?: TokenSignature
  readonly form?: ProbeForm
  /** What is wrong when it comes to something else, in a whole sentence. */
  readonly wrong: string
  /** What its owner can do about it. */
  readonly fix: string
}

/** An answer, and how long it took. */
export type ProbeAnswer = Answer & { readonly durationMs: number }

/** Which claims name whom a good token logs out. */
export type ProbeSubject = 'both' | 'sid' | 'sub'

/** Names nobody: no session and no subject of a real issuer has such a name. */
const NOBODY = 'curfew-probe-'

/**
 * The claims of a good logout token (Back-Channel Logout 2.4) for a subject and a session that do not exist.
 *
 * @param id a new UUID, that nobody can know beforehand.
 * @param jti another one.
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
    ...(subject !== 'sid' && { sub: `${NOBODY}${id}` }),
    ...(subject !== 'sub' && { sid: `${NOBODY}${id}` }),
    events: { [LOGOUT_EVENT_MEMBER]: {} },
  }
}

/** Claims with some taken away. */
export function without(claims: ProbeClaims, ...names: readonly string[]): ProbeClaims {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !names.includes(name)))
}

/** The same answer to two requests, whatever names they bore: for telling whether two refusals have one reason. */
export function sameButForNames(one: string, other: string): boolean {
  const nameless = (text: string) => text.replaceAll(NAMES, '*')
  return nameless(one) === nameless(other)
}

const NAMES = /(?:curfew-probe-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi

const CLAIMS =
  "Let a library for OpenID Connect check the token's claims, all of them that section 2.6 lists."
const SIGNATURE =
  "Verify the signature with the keys of the issuer's jwks_uri, in the one algorithm that the client registered, and take" +
  " nothing from the token's header but the kid."
const HOUR_S = 3_600

/**
 * A token without the logout event, or with a nonce, could pass for an ID token as long as it has a subject; so where a
 * session says whom it is about, the subject is left out.
 */
function noIdToken(claims: ProbeClaims): ProbeClaims {
  return 'sid' in claims ? without(claims, 'sub') : claims
}

function withEvents(claims: ProbeClaims, events: unknown): ProbeClaims {
  const rest = without(noIdToken(claims), 'events')
  return events === undefined ? rest : { ...rest, events }
}

/** Tokens that a relying party must not take, or better does not. */
const PROBE_FORGERIES = {
  alg_none: {
    title: 'refuses alg none',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 3; RFC 8725 3.1',
    expects: 'refused',
    signature: 'none',
    wrong: 'A token that nobody signed (alg none) is taken: anybody can log anybody out.',
    fix: SIGNATURE,
  },
  alg_none_without_kid: {
    title: 'refuses alg none without kid',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 3; RFC 8725 3.1',
    expects: 'refused',
    signature: 'none',
    header: { kid: null },
    wrong:
      'A token that nobody signed (alg none) and that names no key is taken: anybody can log anybody out.',
    fix: SIGNATURE,
  },
  signature_broken: {
    title: 'refuses a broken signature',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 2',
    expects: 'refused',
    signature: 'corrupted',
    wrong: 'A token with a broken signature is taken: anybody can log anybody out.',
    fix: SIGNATURE,
  },
  signature_of_another_key: {
    title: "refuses another key under the issuer's kid",
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 2',
    expects: 'refused',
    signature: 'other_key',
    wrong: "A token that another key signed is taken: the kid is the issuer's, the key is not.",
    fix: SIGNATURE,
  },
  kid_unknown: {
    title: 'refuses a key that the issuer does not publish',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 2; OpenID Connect Core 10.1.1',
    expects: 'refused',
    signature: 'other_key',
    header: { kid: 'curfew-probe-no-such-key' },
    wrong: 'A token that names a key which the issuer does not publish is taken.',
    fix: 'Refuse a kid that is not in the jwks_uri, also after it was fetched anew.',
  },
  key_confusion_pem: {
    title: 'refuses HS256 with the public key (PEM) for a secret',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 3; RFC 8725 2.1, 3.1',
    expects: 'refused',
    signature: 'public_key_pem',
    wrong: "A token signed by HMAC with the issuer's public key is taken: anybody can log anybody out.",
    fix: SIGNATURE,
  },
  key_confusion_jwk: {
    title: 'refuses HS256 with the public key (JWK) for a secret',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 3; RFC 8725 2.1, 3.1',
    expects: 'refused',
    signature: 'public_key_jwk',
    wrong: "A token signed by HMAC with the issuer's public JWK is taken: anybody can log anybody out.",
    fix: SIGNATURE,
  },
  crit: {
    title: 'refuses a critical header that it does not know',
    level: 'must',
    section: 'RFC 7515 4.1.11; RFC 8725 3.10',
    expects: 'refused',
    header: { crit: ['https://curfew.invalid/probe'], 'https://curfew.invalid/probe': true },
    wrong: 'A token whose header says that something unknown must be understood (crit) is taken.',
    fix: 'Refuse a token with crit, unless you understand all that it names.',
  },
  issuer_other: {
    title: 'refuses another issuer',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 4',
    expects: 'refused',
    claims: (good) => ({ ...good, iss: 'https://curfew-probe.invalid' }),
    wrong: 'A token of another issuer (iss) is taken.',
    fix: 'Compare iss with the issuer of your ID tokens, byte for byte.',
  },
  audience_other: {
    title: 'refuses another audience',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 4; RFC 8725 3.9',
    expects: 'refused',
    claims: (good) => ({ ...good, aud: 'curfew-probe-another-client' }),
    wrong: 'A token for another client (aud) is taken: any other client can use the ones that it is sent.',
    fix: 'Refuse a token whose aud does not contain your client_id.',
  },
  expired: {
    title: 'refuses a token that has expired',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 4, 4',
    expects: 'refused',
    claims: (good) => ({ ...good, iat: Number(good.iat) - HOUR_S, exp: Number(good.exp) - HOUR_S }),
    wrong: 'A token that expired an hour ago is taken.',
    fix: 'Compare exp with the clock; a minute or two of difference is enough.',
  },
  exp_missing: {
    title: 'refuses a token without exp',
    level: 'should',
    section: 'Back-Channel Logout 2.4 (errata set 1)',
    expects: 'refused',
    claims: (good) => without(good, 'exp'),
    wrong: 'A token that never expires (without exp) is taken.',
    fix: 'Demand exp. Curfew sends it always; identity providers from before 2023 may not.',
  },
  iat_missing: {
    title: 'refuses a token without iat',
    level: 'should',
    section: 'Back-Channel Logout 2.4',
    expects: 'refused',
    claims: (good) => without(good, 'iat'),
    wrong: 'A token without iat is taken.',
    fix: 'Demand iat.',
  },
  iat_future: {
    title: 'refuses a token from the future',
    level: 'may',
    section: 'Back-Channel Logout 2.6 step 4; OpenID Connect Core 3.1.3.7',
    expects: 'refused',
    claims: (good) => ({ ...good, iat: Number(good.iat) + HOUR_S, exp: Number(good.exp) + HOUR_S }),
    wrong: 'A token whose iat is an hour ahead is taken.',
    fix: 'Refuse an iat that is further ahead than clocks differ.',
  },
  jti_missing: {
    title: 'refuses a token without jti',
    level: 'should',
    section: 'Back-Channel Logout 2.4',
    expects: 'refused',
    claims: (good) => without(good, 'jti'),
    wrong: 'A token without jti is taken.',
    fix: 'Demand jti, without which a repeated token cannot be told from a new one.',
  },
  events_missing: {
    title: 'refuses a token without events, as an ID token is',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 6',
    expects: 'refused',
    claims: (good) => withEvents(good, undefined),
    wrong: 'A token without events is taken, so that an ID token would pass for a logout token.',
    fix: CLAIMS,
  },
  events_other: {
    title: 'refuses a token of another event',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 6',
    expects: 'refused',
    claims: (good) => withEvents(good, { 'https://curfew.invalid/event/another': {} }),
    wrong: 'A token of another event is taken.',
    fix: `Demand the member ${LOGOUT_EVENT_MEMBER} in events.`,
  },
  events_no_object: {
    title: 'refuses events that are no object',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 6',
    expects: 'refused',
    claims: (good) => withEvents(good, [LOGOUT_EVENT_MEMBER]),
    wrong: 'A token whose events are a list is taken.',
    fix: `Demand that events is a JSON object with the member ${LOGOUT_EVENT_MEMBER}.`,
  },
  nonce: {
    title: 'refuses a token with a nonce',
    level: 'must',
    section: 'Back-Channel Logout 2.4, 2.6 step 7',
    expects: 'refused',
    claims: (good) => ({ ...noIdToken(good), nonce: good.jti }),
    wrong: 'A token with a nonce is taken.',
    fix: 'Refuse a token that has a nonce, whatever it is: that tells logout tokens from ID tokens.',
  },
  no_subject: {
    title: 'refuses a token with neither sub nor sid',
    level: 'must',
    section: 'Back-Channel Logout 2.6 step 5',
    expects: 'refused',
    claims: (good) => without(good, 'sub', 'sid'),
    wrong: 'A token that names nobody is taken.',
    fix: CLAIMS,
  },
  replayed: {
    title: 'refuses the same token a second time',
    level: 'may',
    section: 'Back-Channel Logout 2.6 step 8',
    expects: 'refused',
    form: 'repeated',
    wrong: 'The same token (jti) is taken twice. Checking that is left to the relying party.',
    fix: 'Keep each jti until its exp has passed, and refuse it the second time. Curfew never sends one twice.',
  },
} as const satisfies Readonly<Record<string, ProbeRequest>>

const FORM =
  'Read logout_token from a POST of application/x-www-form-urlencoded, and answer 400 where it is not there.'

/** Every request of a probe, in the order in which they are sent. The first ones say which good token is taken at all. */
export const PROBE_REQUESTS = {
  good_token: {
    title: 'takes a good token (sub and sid)',
    level: 'must',
    section: 'Back-Channel Logout 2.6, 2.8',
    expects: 'taken',
    wrong: 'A good logout token is refused.',
    fix: "Look at its log for why. Mostly its copy of the issuer's keys is old, its clock is off, or it expects another issuer, audience or algorithm; or it refuses who has no session there, which it should answer with 200.",
  },
  sid_only: {
    title: 'takes a token with sid alone',
    level: 'should',
    section: 'Back-Channel Logout 2.4, 2.6 step 5',
    expects: 'taken',
    claims: (good) => without(good, 'sub'),
    wrong: 'A token that names the session alone is refused.',
    fix: 'Find the session by iss and sid where there is no sub.',
  },
  sub_only: {
    title: 'takes a token with sub alone',
    level: 'should',
    section: 'Back-Channel Logout 2.4, 2.6 step 5',
    expects: 'taken',
    claims: (good) => without(good, 'sid'),
    wrong: 'A token that names the subject alone is refused, so nobody can be logged out everywhere.',
    fix: 'End every session of iss and sub where there is no sid; or register backchannel_logout_session_required true.',
  },
  more_claims: {
    title: 'ignores claims that it does not know',
    level: 'must',
    section: 'Back-Channel Logout 2.4',
    expects: 'taken',
    claims: (good) => ({ ...good, txn: good.jti, 'https://curfew.invalid/probe': { ignored: true } }),
    wrong: 'A good token with one more claim is refused.',
    fix: 'Ignore claims that you do not know; Curfew itself sends txn.',
  },
  audience_list: {
    title: 'takes the audience as a list of one',
    level: 'should',
    section: 'Back-Channel Logout 2.4; OpenID Connect Core 2',
    expects: 'taken',
    claims: (good) => ({ ...good, aud: [good.aud] }),
    wrong:
      'A good token whose aud is a list with the client_id is refused. Curfew sends a text; others may not.',
    fix: 'Take aud as a text or as a list that contains the client_id.',
  },
  typ_jwt: {
    title: 'whether it takes typ JWT',
    level: 'informs',
    section: 'Back-Channel Logout 2.4, 4.1',
    expects: 'either',
    header: { typ: 'JWT' },
    wrong:
      'It demands typ logout+jwt, which Curfew sends and which is the safest. Many identity providers send JWT.',
    fix: 'Where others send to it as well, let it take JWT too.',
  },
  typ_missing: {
    title: 'whether it takes a token without typ',
    level: 'informs',
    section: 'Back-Channel Logout 2.4, 4.1',
    expects: 'either',
    header: { typ: null },
    wrong: 'It demands a typ, which Curfew sends. Many identity providers send none.',
    fix: 'Where others send to it as well, let it take a token without.',
  },
  more_fields: {
    title: 'ignores form fields that it does not know',
    level: 'must',
    section: 'Back-Channel Logout 2.5',
    expects: 'taken',
    form: 'with_another_field',
    wrong: 'A good token in a form with one more field is refused.',
    fix: 'Ignore form fields that you do not know.',
  },
  charset: {
    title: 'takes a form whose type names a charset',
    level: 'should',
    section: 'Back-Channel Logout 2.5; RFC 9110 8.3.1',
    expects: 'taken',
    form: 'with_charset',
    wrong:
      'A good token is refused where the Content-Type is application/x-www-form-urlencoded; charset=utf-8.',
    fix: 'Compare the media type without its parameters.',
  },

  ...PROBE_FORGERIES,

  no_jwt: {
    title: 'refuses what is no token at all',
    level: 'must',
    section: 'Back-Channel Logout 2.6, 2.8',
    expects: 'refused',
    form: 'no_jwt',
    wrong: 'Something that is no token at all is taken.',
    fix: 'Answer 400 to what cannot be read.',
  },
  no_token: {
    title: 'refuses a form without logout_token',
    level: 'must',
    section: 'Back-Channel Logout 2.5, 2.8',
    expects: 'refused',
    form: 'without_token',
    wrong: 'A form without logout_token is answered as if somebody had been logged out.',
    fix: FORM,
  },
  no_body: {
    title: 'refuses a POST without a body',
    level: 'must',
    section: 'Back-Channel Logout 2.5, 2.8',
    expects: 'refused',
    form: 'empty',
    wrong: 'A POST without a body is answered as if somebody had been logged out.',
    fix: FORM,
  },
  get: {
    title: 'refuses GET',
    level: 'should',
    section: 'Back-Channel Logout 2.5',
    expects: 'refused',
    form: 'query',
    wrong: 'A good token in the query of a GET is taken; queries end up in logs, and links can be planted.',
    fix: 'Answer anything but POST with 405.',
  },
  json: {
    title: 'refuses a JSON body',
    level: 'should',
    section: 'Back-Channel Logout 2.5',
    expects: 'refused',
    form: 'json',
    wrong: 'A good token in a JSON body is taken.',
    fix: FORM,
  },
  two_tokens: {
    title: 'refuses a form with two logout_token',
    level: 'informs',
    section: 'none; RFC 6749 3.2 says so of OAuth forms',
    expects: 'refused',
    form: 'twice_in_one_form',
    wrong: 'A form with two logout_token is taken; which of them counts, nobody can know.',
    fix: 'Refuse a field that comes twice.',
  },
  oversize: {
    title: 'refuses a token of 1 MiB in time',
    level: 'should',
    section: 'none; RFC 9110 15.5.14 has a status for it (413)',
    expects: 'refused',
    form: 'oversize',
    wrong: 'A body of 1 MiB is not refused in time: with a few of them anybody can stop the endpoint.',
    fix: 'Read no more than some 16 KiB of a body, then answer 413.',
  },
} as const satisfies Readonly<Record<string, ProbeRequest>>

export type ProbeRequestId = keyof typeof PROBE_REQUESTS

/** As its type has it: what is left out is `undefined`. */
export function probeRequest(id: ProbeRequestId): ProbeRequest {
  return PROBE_REQUESTS[id]
}

export const PROBE_REQUEST_IDS = Object.keys(PROBE_REQUESTS) as readonly ProbeRequestId[]
