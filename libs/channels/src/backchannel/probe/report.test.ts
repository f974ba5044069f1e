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

// Goal: a report says what was seen and nothing more, above all where good tokens are refused, and every word of it is for
// the owner of the endpoint. Method: the answers of a good endpoint, some of them changed, judged without any endpoint.

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
  detail: 'so it was',
  durationMs: 3_000,
})
const now = new Date('2026-11-21T09:00:00Z')
const inDays = (days: number) => new Date(now.getTime() + days * 86_400_000)

function factsWith(changes: Changes, more: Partial<ProbeFacts> = {}): ProbeFacts {
  const good = PROBE_REQUEST_IDS.map(
    (id) => [id, answered(probeRequest(id).expects === 'taken' ? 200 : 400)] as const,
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

const each = (ids: readonly ProbeRequestId[], answer: ProbeAnswer | undefined): Changes =>
  Object.fromEntries(ids.map((id) => [id, answer]))
const idsOf = (expects: 'taken' | 'refused' | 'either') =>
  PROBE_REQUEST_IDS.filter((id) => probeRequest(id).expects === expects)

function judge(changes: Changes, more: Partial<ProbeFacts> = {}) {
  const report = probeReport(factsWith(changes, more))
  const by = (result: string) => report.checks.filter((check) => check.result === result).map(({ id }) => id)
  const check = (id: string) => report.checks.find((each) => each.id === id)
  const suggestions = report.suggestions.map(({ setting, value }) => [setting, value])
  return { report, failed: by('failed'), unknown: by('unknown'), passed: by('passed'), check, suggestions }
}

test('a good endpoint passes everything, and nothing is suggested where nothing would change', () => {
  expect(judge({})).toMatchObject({ failed: [], unknown: [], suggestions: [] })
})

describe('where no good token is taken', () => {
  test('a refusal proves nothing, and what is taken all the same is found', () => {
    const all = each(PROBE_REQUEST_IDS, answered(400, 'no'))
    const { failed, passed } = judge({ ...all, alg_none: answered(200) })
    expect(failed).toEqual(['good_token', 'sid_only', 'sub_only', 'alg_none'])
    expect(passed).toEqual(['endpoint', 'tls'])
  })

  test('that it is for want of a session shows by its words, whatever names are in them', () => {
    const names = ['0b0cb1b5-3f0f-4c4e-9d0c-2f4f1f4a1a11', '1b0cb1b5-3f0f-4c4e-9d0c-2f4f1f4a1a12']
    const forged = each(idsOf('refused'), answered(400, 'signature'))
    const good = each(idsOf('taken'), answered(400, `no session curfew-probe-${names[0]}`))
    const more_claims = answered(400, `no session curfew-probe-${names[1]}`)
    const { failed, check } = judge({ ...forged, ...good, more_claims })
    expect(failed).toEqual(['unknown_subject'])
    expect(check('good_token')?.what).toMatch(/names nobody who has a session/)
  })

  test.each<[string, Changes]>([
    ['the words are the same', each(PROBE_REQUEST_IDS, answered(400, 'no'))],
    ['there are none', each(PROBE_REQUEST_IDS, answered(400))],
    [
      'they are others each time',
      Object.fromEntries(PROBE_REQUEST_IDS.map((id) => [id, answered(400, `trace ${id}`)])),
    ],
    [
      'a forged one gets the same',
      { ...each(PROBE_REQUEST_IDS, answered(400, 'no')), signature_broken: answered(400, 'signature') },
    ],
  ])('that is not guessed where %s', (_, changes) => {
    const { failed, check } = judge(changes)
    expect(failed).toEqual(['good_token', 'sid_only', 'sub_only'])
    expect(check('unknown_subject')?.result).toBe('unknown')
  })

  test.each<[string, ProbeAnswer]>([
    ['no answer', silent('timeout')],
    ['TLS that does not hold', silent('tls')],
    ['a forbidden address', { kind: 'not_allowed', detail: '10.0.0.1', durationMs: 1 }],
    ['a page that is not there', answered(404)],
    ['an outage', answered(503)],
  ])('%s is one fault, of the endpoint, and its words say so', (_, answer) => {
    const nothing = each(PROBE_REQUEST_IDS, undefined)
    const { failed, check, unknown } = judge({ ...nothing, good_token: answer }, { tls: null })
    expect(failed).toEqual(['endpoint'])
    expect(unknown).toContain('alg_none')
    expect(check('alg_none')?.what).toContain('after the answer to a good token')
    expect(check('endpoint')?.fix).toMatch(/\.$/)
  })
})

test.each<[ProbeAnswer]>([[answered(429)], [answered(503)], [silent('timeout')], [silent('signer')]])(
  'an answer that says nothing of a token is neither a taking nor a refusal: %j',
  (answer) => {
    const { failed, unknown } = judge({ audience_other: answer, typ_jwt: answer })
    expect({ failed, unknown }).toEqual({ failed: [], unknown: ['typ_jwt', 'audience_other'] })
  },
)

test('what there was no time for is said to be so', () => {
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
    ['that holds', {}, 'passed', /TLSv1\.3.* 60 more days/],
    ['that ends soon', { tls: { protocol: 'TLSv1.2', validTo: inDays(13) } }, 'failed', /13 more days/],
    ['there is none', { uri: 'http://rp.example/', tls: null }, 'failed', /It is http/],
    ['that was not seen', { tls: null }, 'unknown', /cannot be seen/],
  ])('%s', (_, more, result, what) => {
    expect(judge({}, more).check('tls')).toMatchObject({ result, what: expect.stringMatching(what) })
  })
})

describe('what is implied for our settings', () => {
  const refused = answered(400, 'no')
  const settings = factsWith({}).settings
  test.each<[string, Changes, Partial<ProbeFacts>, readonly unknown[]]>([
    [
      'both may widen',
      {},
      { settings: { subject_claims: 'both', session_required: false } },
      [['curfew.subject_claims', 'sid']],
    ],
    [
      'both is refused',
      { good_token: refused },
      { settings: { subject_claims: 'both', session_required: false } },
      [['curfew.subject_claims', 'sid']],
    ],
    [
      'sid is refused',
      { good_token: refused, sid_only: refused },
      { settings: { subject_claims: 'both', session_required: false } },
      [['curfew.subject_claims', 'sub']],
    ],
    ['sid alone is refused', { sid_only: refused }, {}, [['curfew.subject_claims', 'both']]],
    ['sub alone is refused', { sub_only: refused }, {}, [['backchannel_logout_session_required', true]]],
    [
      'as is registered',
      { sub_only: refused },
      { settings: { subject_claims: 'sid', session_required: true } },
      [],
    ],
    ['it is slow', { good_token: answered(200, '', 5_500) }, {}, [['curfew.timeout_ms', 17_000]]],
    [
      'it is slow, and no more can be had',
      { good_token: answered(200, '', 16_000) },
      { timeoutMs: 30_000 },
      [],
    ],
  ])('%s', (_, changes, more, suggestions) => {
    expect(judge(changes, more).suggestions).toEqual(suggestions)
  })

  test('an RP that is registered to need sid may refuse a token without', () => {
    const { failed } = judge({ sub_only: refused }, { settings: { ...settings, session_required: true } })
    expect(failed).toEqual([])
  })
})

test('words are whole sentences, each check has a section, and only a failure has a fix', () => {
  const wrong = PROBE_REQUEST_IDS.map((id) => [
    id,
    answered(probeRequest(id).expects === 'taken' ? 400 : 200),
  ])
  for (const changes of [{}, Object.fromEntries(wrong), each(PROBE_REQUEST_IDS, undefined)]) {
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

test('a token names nobody real, and never passes for an ID token where a session says whom it is about', () => {
  const good = { iss: 'https://idp.example', aud: 'rp', now, id: 'i', jti: 'j', subject: 'both' } as const
  for (const id of PROBE_REQUEST_IDS) {
    const { claims = (same) => same } = probeRequest(id)
    const { sub, sid, events, nonce } = claims(probeClaims(good))
    for (const name of [sub, sid]) expect([undefined, 'curfew-probe-i']).toContain(name)
    if (JSON.stringify(events)?.includes('backchannel-logout":{}') !== true || nonce !== undefined)
      expect([id, sub]).toEqual([id, undefined])
  }
})

test('nobody fails for demanding a typ, which Curfew sends, nor for taking a token without', () => {
  const demands = judge(each(idsOf('either'), answered(400)))
  expect(demands.failed).toEqual([])
  expect(demands.check('typ_missing')?.what).toContain('It demands a typ')
  const takes = judge(each(idsOf('either'), answered(200)))
  expect(takes.failed).toEqual([])
  expect(takes.check('typ_missing')?.what).not.toContain('demands')
})
