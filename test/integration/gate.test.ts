import { createHmac, createPublicKey, randomUUID } from 'node:crypto'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import {
  type CurfewGate,
  openTokenIssuer,
  registerGate,
  startGate,
  type TokenIssuer,
} from '../support/curfew-gate.ts'
import { useProcesses } from '../support/processes.ts'

// Goal: the gate lets a request pass only with one valid access token that no logout ended, whatever the client sends.
// Method: a real Curfew, the gate as a process, and fetch as the gateway; bare sockets where fetch is too polite.

const processes = useProcesses('file')
let curfew: Curfew
let idp: TokenIssuer
let stranger: TokenIssuer
let gate: CurfewGate
let settings: Readonly<Record<string, string>>
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'partial' })
  idp = await openTokenIssuer()
  stranger = await openTokenIssuer()
  settings = { ...(await registerGate(curfew)), CURFEW_GATE_JWKS: idp.jwks }
  gate = await startGate(processes, settings)
  await gate.ready()
})
afterAll(async () => {
  await processes.end()
  await Promise.all([curfew.stop(), idp.close(), stranger.close()])
})

const INVALID = 'Bearer error="invalid_token"'
async function seen(answer: Response) {
  await answer.text()
  return [answer.status, answer.headers.get('www-authenticate')]
}
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
const seconds = () => Math.floor(Date.now() / 1_000)

/** Sends header lines as they are. @returns the status. */
async function statusOf(lines: readonly string[], path = '/check'): Promise<number> {
  const { port } = new URL(gate.url)
  const socket = connect(Number(port), '127.0.0.1')
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`,
  )
  let answer = ''
  for await (const chunk of socket) answer += String(chunk)
  return Number(answer.split(' ')[1])
}

describe('a request passes', () => {
  test('with a valid token, by any method, with the identity of the token', async () => {
    const token = await idp.token({ sid: 'abc', scope: 'read write' })
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND']) {
      const answer = await gate.ask(token, '/check', { method })
      expect([method, answer.status]).toEqual([method, 200])
      expect(Object.fromEntries(answer.headers)).toMatchObject({
        ...{ 'x-auth-sub': 'alice', 'x-auth-sid': 'abc', 'x-auth-scope': 'read write' },
        'cache-control': 'no-store',
      })
    }
  })

  test('with a body and any content type', async () => {
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{' }
    expect((await gate.ask(await idp.token(), '/check', init)).status).toBe(200)
  })

  test('with the scheme in any case', async () => {
    const token = await idp.token()
    for (const scheme of ['bearer', 'BEARER', 'Bearer  '])
      expect(await statusOf([`authorization: ${scheme} ${token}`])).toBe(200)
  })

  test('and no field is sent for a claim that is no printable text', async () => {
    const token = await idp.token({ sub: 'böse\r\nX-Admin: 1', sid: ' x' })
    const answer = await gate.ask(token, '/check', {
      headers: { 'x-auth-sub': 'root', 'x-auth-sid': 'root' },
    })
    expect([...answer.headers.keys()].filter((name) => name.startsWith('x-a'))).toEqual([])
  })
})

describe('a request is refused', () => {
  test('without a token, with a challenge that has no error', async () => {
    expect(await seen(await gate.ask(null))).toEqual([401, 'Bearer'])
    const basic = { headers: { authorization: 'Basic YTpi' } }
    expect(await seen(await gate.ask(null, '/check', basic))).toEqual([401, 'Bearer'])
  })

  test('with the token elsewhere than in the header', async () => {
    const token = await idp.token()
    expect(await seen(await gate.ask(null, `/check?access_token=${token}`))).toEqual([401, 'Bearer'])
    const form = { method: 'POST', body: new URLSearchParams({ access_token: token }) }
    expect(await seen(await gate.ask(null, '/check', form))).toEqual([401, 'Bearer'])
  })

  test('with two Authorization headers, also if both are valid', async () => {
    const token = await idp.token()
    expect(await statusOf([`authorization: Bearer ${token}`, `Authorization: Bearer ${token}`])).toBe(400)
    expect(await statusOf(['authorization: Basic YTpi', `AUTHORIZATION: Bearer ${token}`])).toBe(400)
  })

  test('with a malformed Authorization header', async () => {
    const [token, other] = [await idp.token(), await idp.token()]
    for (const value of ['Bearer', `Bearer ${token} ${other}`, `Bearer ${token},`, `Bearer "${token}"`]) {
      const answer = await gate.ask(null, '/check', { headers: { authorization: value } })
      expect(await seen(answer)).toEqual([400, 'Bearer error="invalid_request"'])
    }
    expect(await statusOf([`authorization: Bearer ${token}, Bearer ${other}`])).toBe(400)
  })

  test.each<[string, Readonly<Record<string, unknown>>, Readonly<Record<string, unknown>>]>([
    ['another audience', { aud: 'https://mail.example' }, {}],
    ['another issuer', { iss: 'https://evil.example' }, {}],
    ['an end in the past', { exp: seconds() - 60 }, {}],
    ['a beginning in the future', { nbf: seconds() + 60 }, {}],
    ['the type of an ID token', {}, { typ: 'JWT' }],
    ['an unknown key', {}, { kid: '../../../../dev/null' }],
    ['a session that is no text', { sid: { $ne: null } }, {}],
    ['a subject that is no text', { sub: ['alice'] }, {}],
  ])('with a token of %s', async (_, claims, header) => {
    expect(await seen(await gate.ask(await idp.token(claims, header)))).toEqual([401, INVALID])
  })

  test('with a forged token', async () => {
    const claims = {
      iss: ISS,
      aud: 'https://orders.example',
      sub: 'alice',
      iat: seconds(),
      exp: seconds() + 60,
    }
    const unsigned = `${part({ alg: 'none', typ: 'at+jwt' })}.${part(claims)}.`
    const pem = createPublicKey({ key: idp.publicJwk as never, format: 'jwk' }).export({
      ...{ type: 'spki', format: 'pem' },
    } as never)
    const input = `${part({ alg: 'HS256', typ: 'at+jwt', kid: 'one' })}.${part(claims)}`
    const symmetric = `${input}.${createHmac('sha256', pem).update(input).digest('base64url')}`
    const genuine = await idp.token()
    const changed = genuine.replace(/\.[^.]+\./, `.${part({ ...claims, sub: 'root' })}.`)
    const own = await stranger.token({}, { jwk: stranger.publicJwk, jku: stranger.jwks })
    for (const token of [unsigned, symmetric, changed, own])
      expect(await seen(await gate.ask(token))).toEqual([401, INVALID])
  })

  test('with a giant token, without reading it', async () => {
    expect(await seen(await gate.ask(await idp.token({ big: 'x'.repeat(20_000) })))).toEqual([401, INVALID])
    expect(await statusOf([`authorization: Bearer ${'x'.repeat(100_000)}`])).toBe(431)
    expect(await seen(await gate.ask(await idp.token({ groups: 'x'.repeat(4_000) })))).toEqual([200, null])
  })

  test('at a path that is not the gate’s', async () => {
    const token = await idp.token()
    for (const path of [
      '/check/',
      '/check/other',
      '/check/allow/x',
      '/check%2Fallow',
      '/ext_authz',
      '/ext_authz/x',
      '//check',
    ])
      expect([path, (await gate.ask(token, path)).status]).toEqual([path, 404])
  })
})

describe('a logout', () => {
  test('ends the tokens of the session, also those that passed before, within a second; and no other', async () => {
    const [sid, other] = [randomUUID(), randomUUID()]
    const [ended, alive] = [await idp.token({ sid }), await idp.token({ sid: other })]
    for (const token of [ended, alive]) expect((await gate.ask(token)).status).toBe(200)
    await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', sid })
    const startedMs = performance.now()
    await eventually(async () => expect(await seen(await gate.ask(ended))).toEqual([401, INVALID]))
    expect(performance.now() - startedMs).toBeLessThan(5_000)
    expect((await gate.ask(alive)).status).toBe(200)
  })

  test('of a subject ends the tokens that were issued before it, and none of a later login', async () => {
    const sub = randomUUID()
    const before = await idp.token({ sub, iat: seconds() - 10 })
    await curfew.client.postLogoutEvent({ iss: ISS, sub, scope: 'subject' })
    await eventually(async () => expect((await gate.ask(before)).status).toBe(401))
    expect((await gate.ask(await idp.token({ sub, iat: seconds() + 2 }))).status).toBe(200)
  })

  test('is acknowledged by the gate', async () => {
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: randomUUID(), scope: 'subject' })
    await eventually(async () => {
      const { deliveries } = await curfew.client.getLogoutEvent(id)
      expect(deliveries).toMatchObject([{ state: 'acknowledged', level: 'received' }])
    })
  })
})

test('every answer is counted', async () => {
  await gate.ask(await idp.token())
  const text = await (await fetch(`${gate.url}/metrics`)).text()
  for (const result of ['passed', 'revoked', 'invalid', 'missing', 'malformed'])
    expect(text).toMatch(
      new RegExp(`^curfew_gate_checks_total\\{result="${result}",policy="deny"\\} [1-9]`, 'm'),
    )
  expect(await gate.metric('curfew_gate_stale')).toBe(0)
  expect(await gate.metric('curfew_gate_cutoffs')).toBeGreaterThan(0)
})

test('the log has no token, subject or key', async () => {
  const log = gate.process.stderr
  expect(log).toContain('gate.snapshot-read')
  expect(log).not.toMatch(/eyJ|alice/)
  expect(log).not.toContain(settings.CURFEW_GATE_KEY ?? '-')
})

test('wrong settings end the start with one line each', async () => {
  const run = processes.start({
    name: 'gate',
    file: 'services/cli/src/main.ts',
    args: ['gate'],
    env: {
      CURFEW_GATE_FEED: 'https://curfew.example/',
      CURFEW_GATE_ALGORITHMS: 'HS256',
      CURFEW_GATE_WHEN_STALE: 'introspect',
    },
  })
  expect((await run.exit()).code).toBe(2)
  const lines = run.stderr.trim().split('\n')
  expect(lines).toHaveLength(6)
  expect(run.stderr).toContain('CURFEW_GATE_FEED must end with /v1/issuers/{issuer}/revocations')
  expect(run.stderr).toContain('CURFEW_GATE_AUDIENCE is not set: a token for another API would pass')
})
