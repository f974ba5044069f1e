import { describe, expect, test } from 'vitest'
import type { ProbeFacts } from './facts.ts'
import { probeReport } from './report.ts'
import {
  PROBE_REQUEST_IDS,
  type ProbeAnswer,
  type ProbeRequestId,
  probeClaims,
  probeRequest,
} from './requests.ts'

// Goal: a report follows from the observed answers only, especially if good tokens are refused, and the owner of the endpoint can
// understand it.
// Method: judges the answers of a good endpoint, with some answers changed. There is no real endpoint.

type Changes = Partial<Readonly<Record<ProbeRequestId, ProbeAnswer | undefined>>>

const answered = (status: number, description = '', durationMs = 20): ProbeAnswer => ({
  kind: 'response',
  status,
  retryAfter: null,
  body:
    description === '' ? '' : JSON.stringify({ error: 'invalid_request', error_description: description }),
  headers: { 'cache-control': 'no-store' },
  durationMs,
})
const silent = (failure: 'timeout' | 'tls' | 'connection_reset' | 'signer'): ProbeAnswer => ({
  kind: 'failure',
  failure,
  detail: 'the detail',
  durationMs: 3_000,
})
const now = new Date('2026-11-21T09:00:00Z')
const inDays = (days: number) => new Date(now.getTime() + days * 86_400_000)

const SETTINGS: ProbeFacts['settings'] = {
  ...{ algorithm: 'ES256', subject_claims: 'sid', session_required: false },
  ...{ token_type: 'logout+jwt', already_ended_errors: [] },
}

function factsWith(changes: Changes, more: Partial<ProbeFacts> = {}): ProbeFacts {
  const good = PROBE_REQUEST_IDS.map(
    (id) => [id, answered(probeRequest(id).expects === 'accepted' ? 200 : 400)] as const,
  )
  const answers = new Map<ProbeRequestId, ProbeAnswer>(good)
  for (const [id, answer] of Object.entries(changes) as [ProbeRequestId, ProbeAnswer | undefined][]) {
    if (answer === undefined) answers.delete(id)
    else answers.set(id, answer)
  }
  return {
    uri: 'https://rp.example/logout',
    now,
    answers,
    tls: { protocol: 'TLSv1.3', validTo: inDays(60) },
    tokenType: 'logout+jwt',
    settings: SETTINGS,
    timeoutMs: 10_000,
    ...more,
  }
}

const answersTo = (ids: readonly ProbeRequestId[], answer: ProbeAnswer | undefined): Changes =>
  Object.fromEntries(ids.map((id) => [id, answer]))
const idsOf = (expects: 'accepted' | 'refused' | 'either') =>
  PROBE_REQUEST_IDS.filter((id) => probeRequest(id).expects === expects)

function judge(changes: Changes, more: Partial<ProbeFacts> = {}) {
  const report = probeReport(factsWith(changes, more))
  const by = (result: string) => report.checks.filter((check) => check.result === result).map(({ id }) => id)
  const check = (id: string) => report.checks.find((found) => found.id === id)
  const suggestions = report.suggestions.map(({ setting, value }) => [setting, value])
  return { report, failed: by('failed'), unknown: by('unknown'), passed: by('passed'), check, suggestions }
}

test('a good endpoint passes every check, and the report has no suggestions', () => {
  expect(judge({})).toMatchObject({ failed: [], unknown: [], suggestions: [] })
})

describe('an endpoint that accepts no good token', () => {
  test('does not pass a check by a refusal, and fails if it accepts a forged token', () => {
    const all = answersTo(PROBE_REQUEST_IDS, answered(400, 'no'))
    const { failed, passed } = judge({ ...all, alg_none: answered(200) })
    expect(failed).toEqual(['good_token', 'sid_only', 'sub_only', 'alg_none'])
    expect(passed).toEqual(['endpoint', 'tls'])
  })

  test('fails unknown_subject if its texts for good tokens differ from those for forged ones in more than the names', () => {
    const names = ['0b0cb1b5-3f0f-4c4e-9d0c-2f4f1f4a1a11', '1b0cb1b5-3f0f-4c4e-9d0c-2f4f1f4a1a12']
    const forged = answersTo(idsOf('refused'), answered(400, 'signature'))
    const good = answersTo(idsOf('accepted'), answered(400, `no session curfew-probe-${names[0]}`))
    const more_claims = answered(400, `no session curfew-probe-${names[1]}`)
    const { failed, check } = judge({ ...forged, ...good, more_claims })
    expect(failed).toEqual(['unknown_subject'])
    expect(check('good_token')?.what).toMatch(/subject of the token has no session/)
  })

  test.each<[string, Changes]>([
    ['all texts are the same', answersTo(PROBE_REQUEST_IDS, answered(400, 'no'))],
    ['there are no texts', answersTo(PROBE_REQUEST_IDS, answered(400))],
    [
      'every text is different',
      Object.fromEntries(PROBE_REQUEST_IDS.map((id) => [id, answered(400, `trace ${id}`)])),
    ],
    [
      'one forged token gets the same text',
      { ...answersTo(PROBE_REQUEST_IDS, answered(400, 'no')), signature_broken: answered(400, 'signature') },
    ],
  ])('leaves unknown_subject unknown if %s', (_, changes) => {
    const { failed, check } = judge(changes)
    expect(failed).toEqual(['good_token', 'sid_only', 'sub_only'])
    expect(check('unknown_subject')?.result).toBe('unknown')
  })

  test.each<[string, ProbeAnswer]>([
    ['a missing answer', silent('timeout')],
    ['a TLS failure', silent('tls')],
    ['a forbidden address', { kind: 'not_allowed', detail: '10.0.0.1', durationMs: 1 }],
    ['a missing page', answered(404)],
    ['an outage', answered(503)],
  ])('%s fails only the check endpoint, and the other checks are unknown', (_, answer) => {
    const nothing = answersTo(PROBE_REQUEST_IDS, undefined)
    const { failed, check, unknown } = judge({ ...nothing, good_token: answer }, { tls: null })
    expect(failed).toEqual(['endpoint'])
    expect(unknown).toContain('alg_none')
    expect(check('alg_none')?.what).toContain('After the answer to a good token')
    expect(check('endpoint')?.fix).toMatch(/\.$/)
  })
})

describe('an endpoint that refuses nothing', () => {
  const everything = answersTo(PROBE_REQUEST_IDS, answered(200))

  test('passes no check by an acceptance, and gets no suggestion about its tokens', () => {
    const { passed, failed, unknown, suggestions } = judge(everything, {
      settings: { ...SETTINGS, subject_claims: 'both' },
    })
    expect(passed).toEqual(['tls', 'status_200', 'cache_control', 'time'])
    expect(failed).toEqual(idsOf('refused'))
    expect(unknown).toEqual([
      ...['endpoint', 'unknown_subject', 'refusal_status'],
      ...PROBE_REQUEST_IDS.filter((id) => probeRequest(id).expects !== 'refused'),
    ])
    expect(suggestions).toEqual([])
  })

  test('leaves refusal_status unknown if the few answers that are no acceptance are not about the token', () => {
    const busy = answersTo(idsOf('refused'), answered(503))
    expect(judge(busy).check('refusal_status')).toMatchObject({ result: 'unknown', fix: null })
  })
})

describe('the typ of tokens', () => {
  const REFUSED = answered(400, 'typ')

  test('is suggested if good tokens are refused with the registered typ only, and fails only good_token', () => {
    const { failed, check, suggestions } = judge(
      { good_token: REFUSED, typ_logout_jwt: REFUSED },
      { tokenType: 'JWT' },
    )
    expect(suggestions).toEqual([['curfew.token_type', 'JWT']])
    expect(failed).toEqual(['good_token'])
    expect(check('good_token')?.fix).toContain('Register curfew.token_type JWT')
  })

  test('is suggested to be logout+jwt again if the endpoint accepts that too', () => {
    const settings = { ...SETTINGS, token_type: 'JWT' as const }
    expect(judge({ typ_logout_jwt: answered(200) }, { settings, tokenType: 'JWT' }).suggestions).toEqual([
      ['curfew.token_type', 'logout+jwt'],
    ])
    const strict = judge({}, { settings, tokenType: 'JWT' })
    expect([strict.failed, strict.suggestions]).toEqual([[], []])
  })
})

test('the advice for a redirect follows from the target that may be shown, never from the header itself', () => {
  const LOGIN = 'https://rp.example/login'
  const adviceFor = (restricted: boolean, location: string) => {
    const answer = { ...answered(302), restricted, location, headers: { location } } as ProbeAnswer
    const { check } = judge(answersTo(PROBE_REQUEST_IDS, answer))
    return check('endpoint')?.fix
  }
  expect(adviceFor(false, LOGIN)).toMatch(/Do not register the address of the login page/)
  expect(adviceFor(true, LOGIN)).toBe(adviceFor(true, 'https://rp.example/logout/'))
})

describe('an error that means that the session is already over', () => {
  const says = (error: string | null, description = 'd', status = 400): ProbeAnswer => ({
    ...{ kind: 'response', status, retryAfter: null, durationMs: 20 },
    headers: { 'cache-control': 'no-store' },
    body: JSON.stringify({ ...(error !== null && { error }), error_description: description }),
  })
  const good = answersTo(idsOf('accepted'), says('unknown_session', 'no session'))
  const forged = answersTo(idsOf('refused'), says('invalid_request', 'signature'))

  test('is suggested, with the values that are registered already, if the endpoint uses it for nothing else', () => {
    const settings = { ...SETTINGS, already_ended_errors: ['older'] }
    const { report, failed } = judge({ ...good, ...forged }, { settings })
    expect(failed).toEqual(['unknown_subject'])
    expect(report.suggestions).toEqual([
      {
        setting: 'curfew.already_ended_errors',
        value: ['older', 'unknown_session'],
        why: expect.stringContaining('probe it with a real session'),
      },
    ])
  })

  test('is suggested with a warning if a token with one claim alone has another error', () => {
    const { report } = judge({ ...good, ...forged, sub_only: says('sid_missing') })
    expect(report.suggestions[0]?.value).toEqual(['unknown_session'])
    expect(report.suggestions[0]?.why).toContain('sid_missing to sub_only')
  })

  test.each<[string, Changes]>([
    [
      'the endpoint has one error for everything, with other descriptions',
      {
        ...answersTo(idsOf('accepted'), says('no', 'session')),
        ...answersTo(idsOf('refused'), says('no', 'signature')),
      },
    ],
    ['one forged token has the error', { ...good, ...forged, no_token: says('unknown_session') }],
    [
      'the error is one for refused tokens',
      { ...answersTo(idsOf('accepted'), says('Invalid_Token')), ...forged },
    ],
    [
      'the error is no text that the setting accepts',
      { ...answersTo(idsOf('accepted'), says('gone\u0000')), ...forged },
    ],
    ['there is a description alone', { ...answersTo(idsOf('accepted'), says(null)), ...forged }],
    [
      'the status is not 400',
      { ...answersTo(idsOf('accepted'), says('unknown_session', 'd', 422)), ...forged },
    ],
  ])('is not suggested if %s', (_, changes) => {
    const { suggestions, check } = judge(changes)
    expect(suggestions).toEqual([])
    expect(check('unknown_subject')?.fix ?? '').not.toContain('suggested')
  })

  const settings = { ...SETTINGS, already_ended_errors: ['unknown_session'] }

  test('counts as an acceptance once it is registered, so that the other checks prove something', () => {
    const { failed, unknown } = judge({ ...good, ...forged }, { settings })
    expect(failed).toEqual(['unknown_subject'])
    // Only an answer to a real session would show this.
    expect(unknown).toEqual(['status_200'])
  })

  test('fails if a token that it must refuse has it too, and such an answer is no refusal', () => {
    const { failed, check } = judge(
      { ...good, ...forged, issuer_other: says('unknown_session') },
      { settings },
    )
    expect(failed).toEqual(['unknown_subject', 'already_ended_errors'])
    expect(check('already_ended_errors')?.what).toContain('issuer_other')
    expect(check('issuer_other')?.result).toBe('unknown')
  })

  test('has an unknown check if it was never seen, and no check if none is registered', () => {
    expect(judge({}, { settings }).check('already_ended_errors')?.result).toBe('unknown')
    expect(judge({}).check('already_ended_errors')).toBeUndefined()
  })
})

test.each<[ProbeAnswer]>([[answered(429)], [answered(503)], [silent('timeout')], [silent('signer')]])(
  'an answer that is not about the token makes its check unknown: %j',
  (answer) => {
    const { failed, unknown } = judge({ audience_other: answer, typ_jwt: answer })
    expect({ failed, unknown }).toEqual({ failed: [], unknown: ['typ_jwt', 'audience_other'] })
  },
)

test('a request that was not sent for lack of time has an unknown check with this reason', () => {
  const { unknown, check } = judge({ oversize: undefined })
  expect(unknown).toEqual(['oversize'])
  expect(check('oversize')?.what).toContain('all the time')
})

test.each<[ProbeAnswer, string]>([
  [answered(413), 'passed'],
  [silent('connection_reset'), 'passed'],
  [silent('timeout'), 'failed'],
  [answered(200), 'failed'],
])('a large body: %j is %s', (answer, result) => {
  expect(judge({ oversize: answer }).check('oversize')?.result).toBe(result)
})

describe('TLS', () => {
  test.each<[string, Partial<ProbeFacts>, string, RegExp]>([
    ['with a valid certificate', {}, 'passed', /TLSv1\.3.* 60 more days/],
    [
      'with a certificate that expires soon',
      { tls: { protocol: 'TLSv1.2', validTo: inDays(13) } },
      'failed',
      /13 more days/,
    ],
    ['that is missing', { uri: 'http://rp.example/', tls: null }, 'failed', /It is http/],
    ['without a connection', { tls: null }, 'unknown', /could not be inspected/],
  ])('%s', (_, more, result, what) => {
    expect(judge({}, more).check('tls')).toMatchObject({ result, what: expect.stringMatching(what) })
  })
})

describe('suggested settings', () => {
  const refused = answered(400, 'no')
  test.each<[string, Changes, Partial<ProbeFacts>, readonly unknown[]]>([
    [
      'sid if a token with both may end more than the session',
      {},
      { settings: { ...SETTINGS, subject_claims: 'both', session_required: false } },
      [['curfew.subject_claims', 'sid']],
    ],
    [
      'sid if both is refused',
      { good_token: refused },
      { settings: { ...SETTINGS, subject_claims: 'both', session_required: false } },
      [['curfew.subject_claims', 'sid']],
    ],
    [
      'sub if every token with sid is refused',
      { good_token: refused, sid_only: refused },
      { settings: { ...SETTINGS, subject_claims: 'both', session_required: false } },
      [['curfew.subject_claims', 'sub']],
    ],
    ['both if sid alone is refused', { sid_only: refused }, {}, [['curfew.subject_claims', 'both']]],
    [
      'a required session if sub alone is refused',
      { sub_only: refused },
      {},
      [['backchannel_logout_session_required', true]],
    ],
    [
      'nothing if the session is required already',
      { sub_only: refused },
      { settings: { ...SETTINGS, subject_claims: 'sid', session_required: true } },
      [],
    ],
    [
      'a longer timeout if the endpoint is slow',
      { good_token: answered(200, '', 5_500) },
      {},
      [['curfew.timeout_ms', 17_000]],
    ],
    [
      'nothing if the endpoint is slow and the timeout is the longest possible',
      { good_token: answered(200, '', 16_000) },
      { timeoutMs: 30_000 },
      [],
    ],
  ])('%s', (_, changes, more, suggestions) => {
    expect(judge(changes, more).suggestions).toEqual(suggestions)
  })

  test('a refusal of a token without the required sid proves nothing if every token is refused', () => {
    const settings = { ...SETTINGS, session_required: true }
    expect(judge(answersTo(PROBE_REQUEST_IDS, refused), { settings }).check('sub_only')?.result).toBe(
      'unknown',
    )
  })

  test('an RP that is registered to require sid may refuse a token without it', () => {
    const { failed } = judge({ sub_only: refused }, { settings: { ...SETTINGS, session_required: true } })
    expect(failed).toEqual([])
  })
})

test('texts are whole sentences, each check has a section, and only a failed check has a fix', () => {
  const wrong = PROBE_REQUEST_IDS.map((id) => [
    id,
    answered(probeRequest(id).expects === 'accepted' ? 400 : 200),
  ])
  for (const changes of [{}, Object.fromEntries(wrong), answersTo(PROBE_REQUEST_IDS, undefined)]) {
    const { checks, suggestions } = judge(changes).report
    for (const { id, title, section, what, fix, result } of checks) {
      expect([id, title, section]).not.toContain('')
      for (const text of fix === null ? [what] : [what, fix])
        expect([id, text]).toEqual([id, expect.stringMatching(/^[A-Z].*[^.]\.$/s)])
      expect([id, fix !== null]).toEqual([id, result === 'failed'])
    }
    for (const { why } of suggestions) expect(why).toMatch(/^[A-Z].*[^.]\.$/s)
  }
})

test('a token names no real subject or session, and a token that could pass for an ID token has no subject', () => {
  const good = { iss: 'https://idp.example', aud: 'rp', now, id: 'i', jti: 'j', subject: 'both' } as const
  for (const id of PROBE_REQUEST_IDS) {
    const { claims = (same) => same } = probeRequest(id)
    const { sub, sid, events, nonce } = claims(probeClaims(good))
    for (const name of [sub, sid]) expect([undefined, 'curfew-probe-i']).toContain(name)
    if (JSON.stringify(events)?.includes('backchannel-logout":{}') !== true || nonce !== undefined)
      expect([id, sub]).toEqual([id, undefined])
  }
})

test('an endpoint passes whether it requires a typ or accepts a token without one', () => {
  const requires = judge(answersTo(idsOf('either'), answered(400)))
  expect(requires.failed).toEqual([])
  expect(requires.check('typ_missing')?.what).toContain('It requires a typ')
  const accepted = judge(answersTo(idsOf('either'), answered(200)))
  expect(accepted.failed).toEqual([])
  expect(accepted.check('typ_missing')?.what).not.toContain('requires')
})
