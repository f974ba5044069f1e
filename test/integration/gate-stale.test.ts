import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import {
  type CurfewGate,
  openTokenIssuer,
  registerGate,
  startGate,
  type TokenIssuer,
} from '../support/curfew-gate.ts'
import { openGate as openPassage, type Gate as Passage } from '../support/gate.ts'
import { useProcesses } from '../support/processes.ts'

// Goal: a gate that does not know the newest logouts follows the policy that the gateway names, and says so (CUT-04).
// Method: a real Curfew behind a passage that can be shut, the gate as a process, and an introspection endpoint.

const processes = useProcesses('file')
let curfew: Curfew
let idp: TokenIssuer
let passage: Passage
let settings: Readonly<Record<string, string>>
const introspection = { answer: { status: 200, body: '{"active":true}' }, asked: [] as string[] }
const endpoint = createServer(async (request, response) => {
  let body = ''
  for await (const chunk of request) body += String(chunk)
  introspection.asked.push(`${request.headers.authorization} ${body}`)
  response.writeHead(introspection.answer.status).end(introspection.answer.body)
})

beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'partial' })
  idp = await openTokenIssuer()
  passage = await openPassage(curfew.url)
  endpoint.listen(0, '127.0.0.1')
  await once(endpoint, 'listening')
  settings = {
    ...(await registerGate(curfew)),
    CURFEW_GATE_FEED: new URL(`/v1/issuers/${ISSUER}/revocations`, passage.url).href,
    CURFEW_GATE_JWKS: idp.jwks,
    CURFEW_GATE_MAX_STALENESS_MS: '4000',
    CURFEW_GATE_INTROSPECTION: `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}/introspect`,
    CURFEW_GATE_CLIENT_ID: 'gate:1',
    CURFEW_GATE_CLIENT_SECRET: 'a secret',
  }
})
afterAll(async () => {
  await processes.end()
  await passage.close()
  endpoint.close()
  endpoint.closeAllConnections()
  await Promise.all([curfew.stop(), idp.close()])
})
beforeEach(() => {
  introspection.answer = { status: 200, body: '{"active":true}' }
})

const PATHS = [
  '/check',
  '/check/allow',
  '/check/deny',
  '/check/introspect',
  '/ext_authz/allow/check/deny',
  '/ext_authz/deny/allow',
]
const statuses = async (gate: CurfewGate, token: string) =>
  Promise.all(PATHS.map(async (path) => (await gate.ask(token, path)).status))

describe('cut off from Curfew', () => {
  let gate: CurfewGate
  let live: string
  let ended: string
  beforeAll(async () => {
    gate = await startGate(processes, settings)
    await gate.ready()
    const sid = randomUUID()
    live = await idp.token({ sid: randomUUID() })
    ended = await idp.token({ sid })
    await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', sid })
    await eventually(async () => expect((await gate.ask(ended)).status).toBe(401))
    expect(await statuses(gate, live)).toEqual([200, 200, 200, 200, 200, 200])
    expect(introspection.asked).toEqual([])
    await passage.shut()
    await gate.process.says(/"gate\.stale"/)
  })

  test('the gate answers as each path says, and a client cannot choose the path', async () => {
    expect(await statuses(gate, live)).toEqual([503, 200, 503, 200, 200, 503])
    const denied = await gate.ask(live)
    expect([denied.headers.get('www-authenticate'), denied.headers.get('retry-after')]).toEqual([null, '5'])
  })

  test('a known logout is refused under every policy', async () => {
    expect(await statuses(gate, ended)).toEqual(PATHS.map(() => 401))
  })

  test('introspection is asked with the credentials of the gate, and its answer counts', async () => {
    introspection.asked.length = 0
    const ask = async (answer: typeof introspection.answer) => {
      introspection.answer = answer
      return (await gate.ask(live, '/check/introspect')).status
    }
    expect(await ask({ status: 200, body: '{"active":true}' })).toBe(200)
    expect(introspection.asked).toEqual([
      `Basic ${btoa('gate%3A1:a+secret')} token=${live}&token_type_hint=access_token`,
    ])
    expect(await ask({ status: 200, body: '{"active":false}' })).toBe(401)
    for (const body of ['{"active":"true"}', '{}', 'yes', '[]', 'null'])
      expect(await ask({ status: 200, body })).toBe(503)
    expect(await ask({ status: 401, body: '{"active":true}' })).toBe(503)
    expect(await ask({ status: 302, body: '' })).toBe(503)
  })

  test('the gate stays ready, and says that it is stale', async () => {
    expect(await (await fetch(`${gate.url}/readyz`)).json()).toMatchObject({
      status: 'ready',
      degraded: ['cutoffs'],
    })
    await eventually(async () => expect(await gate.metric('curfew_gate_stale')).toBe(1))
    expect(await gate.metric('curfew_gate_feed_age_seconds')).toBeGreaterThan(4)
    expect(await gate.metric('curfew_gate_feed_failures')).toBeGreaterThan(0)
  })

  test('once Curfew is back, all is as before', async () => {
    await passage.open()
    await gate.process.says(/"gate\.fresh"[\s\S]*"gate\.fresh"/)
    expect(await statuses(gate, live)).toEqual([200, 200, 200, 200, 200, 200])
    expect(gate.process.stderr.match(/"gate\.stale"/g)).toHaveLength(1)
  })
})

test('a gate that starts without Curfew is not ready, and follows the policies', async () => {
  await passage.shut()
  const gate = await startGate(processes, { ...settings, CURFEW_GATE_WHEN_STALE: 'introspect' })
  const token = await idp.token({ sid: randomUUID() })
  expect(await statuses(gate, token)).toEqual([200, 200, 503, 200, 200, 503])
  expect((await fetch(`${gate.url}/readyz`)).status).toBe(503)
  await passage.open()
  await gate.ready()
  expect(await statuses(gate, token)).toEqual([200, 200, 200, 200, 200, 200])
})

test('a gate without the keys of the issuer lets nothing pass, and is not ready', async () => {
  const gate = await startGate(processes, { ...settings, CURFEW_GATE_JWKS: 'http://127.0.0.1:9/' })
  const token = await idp.token()
  expect(await statuses(gate, token)).toEqual(PATHS.map(() => 503))
  expect(await (await fetch(`${gate.url}/readyz`)).json()).toMatchObject({
    unavailable: expect.arrayContaining(['keys']),
  })
})

test('with CURFEW_GATE_VERIFY=none the gate asks only whether a logout ended the token, and warns at its start', async () => {
  const { CURFEW_GATE_AUDIENCE: _audience, ...without } = settings
  const gate = await startGate(processes, { ...without, CURFEW_GATE_VERIFY: 'none' })
  await gate.process.says(/"gate\.signatures-not-verified"/)
  await gate.ready()
  const unsigned = (token: string) => token.replace(/\.[^.]+$/, '.AAAA')
  const sid = randomUUID()
  const token = unsigned(await idp.token({ sid, aud: 'https://mail.example' }))
  expect((await gate.ask(token)).status).toBe(200)
  expect((await gate.ask(unsigned(await idp.token({ iss: 'https://evil.example' })))).status).toBe(401)
  expect((await gate.ask(unsigned(await idp.token({ exp: 1 })))).status).toBe(401)
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', sid })
  await eventually(async () => expect((await gate.ask(token)).status).toBe(401))
})
