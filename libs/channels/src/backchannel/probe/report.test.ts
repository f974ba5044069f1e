import { describe, expect, test } from 'vitest'
import type { ProbeFacts } from './report.ts'
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
    settings: { subject_claims: 'sid', session_required: false },
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
  const settings = factsWith({}).settings
  test.each<[string, Changes, Partial<ProbeFacts>, readonly unknown[]]>([
    [
      'sid if a token with both may end more than the session',
      {},
      { settings: { subject_claims: 'both', session_required: false } },
      [['curfew.subject_claims', 'sid']],
    ],
    [
      'sid if both is refused',
      { good_token: refused },
      { settings: { subject_claims: 'both', session_required: false } },
      [['curfew.subject_claims', 'sid']],
    ],
    [
      'sub if every token with sid is refused',
      { good_token: refused, sid_only: refused },
      { settings: { subject_claims: 'both', session_required: false } },
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
      { settings: { subject_claims: 'sid', session_required: true } },
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

  test('an RP that is registered to require sid may refuse a token without it', () => {
    const { failed } = judge({ sub_only: refused }, { settings: { ...settings, session_required: true } })
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
