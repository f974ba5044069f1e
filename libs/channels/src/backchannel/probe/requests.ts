import { PROBE_FORGERIES } from './forgeries.ts'
import { type ProbeRequest, without } from './probe.ts'

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
