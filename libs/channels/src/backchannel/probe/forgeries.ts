import { LOGOUT_EVENT_MEMBER } from '../token.ts'
import { type ProbeClaims, type ProbeRequest, without } from './probe.ts'

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
export const PROBE_FORGERIES = {
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
