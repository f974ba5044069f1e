import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Probe } from '@curfew/contract'
import { createLogoutReceiver } from '@curfew/rp'
import { nodeLogoutHandler } from '@curfew/rp/node'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type CertificateMaker, openCertificateMaker } from '../support/certificates.ts'
import { type Curfew, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openReceiver, type Receiver, type ReceiverFault } from '../support/strict-receiver.ts'

// Goal: a probe reports every fault of an endpoint, and no others.
// Method: one real relying party over TLS without faults, and then with one fault at a time.

let curfew: Curfew
let certificates: CertificateMaker
let receiver: Receiver
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
  certificates = await openCertificateMaker()
  const certificate = await certificates.selfSigned('IP:127.0.0.1', 90)
  receiver = await openReceiver(certificate, {
    iss: ISS,
    aud: 'shop',
    jwks: () => curfew.client.getJwks(ISSUER) as ReturnType<Parameters<typeof openReceiver>[1]['jwks']>,
  })
  await curfew.client.putRelyingParty(ISSUER, 'shop', {
    backchannel_logout_uri: receiver.uri,
    id_token_signed_response_alg: 'ES256',
    curfew: { timeout_ms: 3_000, tls: { ca: certificate.cert } },
  })
})
afterAll(async () => {
  await curfew.stop()
  await receiver[Symbol.asyncDispose]()
  await certificates[Symbol.asyncDispose]()
})
beforeEach(() => {
  receiver.fault = null
})

const withResult = ({ report }: Probe, result: string) =>
  (report?.checks ?? []).filter((check) => check.result === result).map(({ id }) => id)

test('a relying party without faults passes every check, and no token names a real session', async () => {
  const before = receiver.requests.length
  const probed = await curfew.client.probe(ISSUER, 'shop')
  expect(withResult(probed, 'failed')).toEqual([])
  expect(withResult(probed, 'unknown')).toEqual([])
  expect(probed).toMatchObject({
    state: 'done',
    uri: receiver.uri,
    requested_by: 'admin',
    report: { conformant: true },
  })
  expect(probed.sent).toBe(probed.total)
  const tokens = receiver.requests
    .slice(before)
    .flatMap(({ token }) => (token === null ? [] : [token.claims]))
  expect(tokens.length).toBeGreaterThan(30)
  for (const { sub, sid } of tokens) {
    for (const name of [sub, sid]) expect(name ?? 'curfew-probe-').toMatch(/^curfew-probe-/)
  }
  // A probe creates no deliveries.
  expect((await curfew.client.listDeliveries()).items).toEqual([])
  expect(await curfew.client.getProbe(ISSUER, 'shop')).toEqual(probed)
})

test('the number of probes at one time is limited for every issuer and in total', async () => {
  const requests: string[] = []
  // The server never answers, so every probe keeps running.
  const silent = createHttpServer((request) => void requests.push(request.url ?? ''))
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const uri = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`
  for (const name of ['p0', 'p1', 'p2'])
    await curfew.client.putIssuer(name, { iss: `https://${name}.example` })
  const probe = (issuer: string, client: string) =>
    fetch(new URL(`/v1/issuers/${issuer}/relying-parties/${client}/probe`, curfew.url), {
      method: 'POST',
      headers: { authorization: `Bearer ${curfew.adminKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({ uri: `${uri}/${issuer}/${client}`, timeout_ms: 3_000 }),
    })
  const running: Promise<unknown>[] = []
  const start = async (issuer: string, client: string) => {
    running.push(probe(issuer, client).catch(() => null))
    await vi.waitFor(() => expect(requests).toContain(`/${issuer}/${client}`), { timeout: 10_000 })
  }
  try {
    for (const client of ['a', 'b']) await start('p0', client)
    const third = await probe('p0', 'c')
    expect([third.status, third.headers.get('retry-after')]).toEqual([429, '5'])
    for (const client of ['a', 'b']) await start('p1', client)
    const fifth = await probe('p2', 'a')
    expect([fifth.status, fifth.headers.get('retry-after')]).toEqual([429, '5'])
    expect(requests).not.toContain('/p0/c')
  } finally {
    silent.closeAllConnections()
    silent.close()
    await Promise.all(running)
  }
  // The probes end, and their places are free again.
  await vi.waitFor(async () => expect((await probe('p2', 'a')).status).not.toBe(429))
})

test.each(['signed', 'encrypted'] as const)(
  'the SDK @curfew/rp passes every check with %s tokens',
  async (how) => {
    const certificate = await certificates.selfSigned('IP:127.0.0.1', 90)
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
    const ended: unknown[] = []
    const sdk = createLogoutReceiver({
      issuer: ISS,
      clientId: `sdk-${how}`,
      jwksUri: `${curfew.url}/issuers/${ISSUER}/jwks.json`,
      algorithms: ['RS256'],
      allowInsecureHttp: true,
      onLogout: ({ subject, sessionId }) => ended.push(subject ?? sessionId),
      ...(how === 'encrypted' && {
        decryptionKeys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RSA-OAEP-256' }],
        requireEncryption: true,
      }),
    })
    const server = createServer(certificate, nodeLogoutHandler(sdk))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    try {
      const metadata = {
        backchannel_logout_uri: `https://127.0.0.1:${(server.address() as AddressInfo).port}/`,
        curfew: { tls: { ca: certificate.cert } },
      }
      await curfew.client.putRelyingParty(ISSUER, `sdk-${how}`, {
        ...metadata,
        ...(how === 'encrypted' && {
          id_token_encrypted_response_alg: 'RSA-OAEP-256',
          jwks: { keys: [publicKey.export({ format: 'jwk' })] },
        }),
      })
      const probed = await curfew.client.probe(ISSUER, `sdk-${how}`)
      expect(withResult(probed, 'failed')).toEqual([])
      expect(withResult(probed, 'unknown')).toEqual([])
      // Only accepted tokens reach the application: the good ones, and the first of two equal ones.
      expect(ended).toHaveLength(9)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  },
)

test('an RP whose encryption keys cannot be fetched gets a problem with the reason', async () => {
  await curfew.client.putRelyingParty(ISSUER, 'keyless', {
    backchannel_logout_uri: `${receiver.uri}/keyless`,
    id_token_encrypted_response_alg: 'RSA-OAEP',
    jwks_uri: 'https://127.0.0.1:9/jwks',
  })
  const refused = await curfew.call('POST', `/v1/issuers/${ISSUER}/relying-parties/keyless/probe`, {})
  expect([refused.status, await refused.json()]).toMatchObject([409, { title: 'No key to encrypt to' }])
})

/** Every fault of a receiver, with the checks that fail. */
const FAULTS: readonly (readonly [fault: ReceiverFault, failed: readonly string[]])[] = [
  ['takes alg none', ['alg_none', 'alg_none_without_kid']],
  ['signature', ['signature_broken', 'signature_of_another_key', 'kid_unknown']],
  ['takes HMAC with the public PEM', ['key_confusion_pem']],
  ['takes HMAC with the public JWK', ['key_confusion_jwk']],
  ['crit', ['crit']],
  ['iss', ['issuer_other']],
  ['aud', ['audience_other']],
  ['exp', ['expired']],
  ['exp missing', ['exp_missing']],
  ['iat missing', ['iat_missing']],
  ['iat future', ['iat_future']],
  ['jti missing', ['jti_missing']],
  ['events missing', ['events_missing']],
  ['events object', ['events_no_object']],
  ['events member', ['events_other']],
  ['nonce', ['nonce']],
  ['subject', ['no_subject']],
  ['replay', ['replayed']],
  // To demand a typ is safe: the probe reports it without a failure.
  ['demands typ', []],
  // The other checks are made with the typ that it accepts.
  ['demands typ JWT', ['good_token']],
  ['demands no typ', ['good_token']],
  ['demands typ JWT and sid alone', ['good_token', 'sub_only']],
  ['demands aud as a text', ['audience_list']],
  ['refuses unknown claims', ['more_claims']],
  ['refuses unknown fields', ['more_fields']],
  ['refuses charset', ['charset']],
  ['needs sid', ['sub_only']],
  ['needs sub', ['sid_only']],
  ['crashes without sid', ['sub_only']],
  ['refuses both', ['good_token']],
  ['takes two tokens', ['two_tokens']],
  ['takes GET', ['get']],
  ['takes JSON', ['json']],
  ['answers without a token', ['no_token', 'no_body']],
  ['hangs on a large body', ['oversize']],
  ['cuts a large body', []],
  ['answers 204', ['status_200']],
  ['answers 401 to forgeries', ['refusal_status']],
  ['answers 500 to forgeries', ['refusal_status']],
  ['answers without Cache-Control', ['cache_control']],
]

test('an endpoint that answers 200 to everything passes no check by an acceptance', async () => {
  receiver.fault = 'answers 200 always'
  const { report } = await curfew.client.probe(ISSUER, 'shop')
  const passed = report?.checks.filter(({ result }) => result === 'passed').map(({ id }) => id)
  // It reads no more than 64 KiB of a body, and answers 413.
  expect(passed).toEqual(['tls', 'status_200', 'cache_control', 'time', 'oversize'])
  expect(report).toMatchObject({ conformant: false, suggestions: [] })
})

test('a suggested error makes the other checks prove something, once it is registered', async () => {
  receiver.fault = 'answers unknown_session'
  const before = (await curfew.client.probe(ISSUER, 'shop')).report
  expect(before?.suggestions).toMatchObject([
    { setting: 'curfew.already_ended_errors', value: ['unknown_session'] },
  ])
  const register = (errors: readonly string[]) =>
    curfew.client.changeRelyingParty(ISSUER, 'shop', () => ({ curfew: { already_ended_errors: errors } }))
  await register(['unknown_session'])
  try {
    const probed = await curfew.client.probe(ISSUER, 'shop')
    expect(withResult(probed, 'failed')).toEqual(['unknown_subject'])
    expect(withResult(probed, 'unknown')).toEqual(['status_200'])
    receiver.fault = 'answers unknown_session before it verifies'
    const careless = await curfew.client.probe(ISSUER, 'shop')
    expect(withResult(careless, 'failed')).toContain('already_ended_errors')
    expect(withResult(careless, 'unknown')).toContain('signature_broken')
  } finally {
    await register([])
  }
})

test.each(FAULTS)('a receiver fails exactly the checks of its fault: %s', async (fault, failed) => {
  receiver.fault = fault
  const probed = await curfew.client.probe(ISSUER, 'shop')
  expect(withResult(probed, 'failed')).toEqual(failed)
  expect(withResult(probed, 'unknown')).toEqual([])
  for (const check of probed.report?.checks ?? [])
    expect([check.id, check.fix === null]).toEqual([check.id, check.result !== 'failed'])
})

// An endpoint that accepts no good token proves nothing by refusing a bad one.
test.each<[ReceiverFault, failed: readonly string[], says: string, sent: 'one' | 'all']>([
  ['answers 302 always', ['endpoint'], 'Do not register the address of the login page', 'one'],
  ['answers 403 always', ['endpoint'], 'CSRF', 'one'],
  ['answers 202', ['endpoint'], 'it answers 200 or 204', 'one'],
  ['answers 503 always', ['endpoint'], 'probe again', 'one'],
  ['answers 400 always', ['good_token', 'sid_only', 'sub_only'], 'another expected issuer', 'all'],
  ['knows no session', ['unknown_subject'], 'Answer 200 if the session does not exist', 'all'],
])(
  'an endpoint that accepts no good token passes no check of a refusal: %s',
  async (fault, failed, says, sent) => {
    receiver.fault = fault
    const probed = await curfew.client.probe(ISSUER, 'shop')
    expect(withResult(probed, 'failed')).toEqual(failed)
    const passed = withResult(probed, 'passed')
    expect(passed.filter((id) => !['endpoint', 'tls', 'oversize'].includes(id))).toEqual([])
    expect(probed.report).toMatchObject({ conformant: false, suggestions: [] })
    expect(probed.report?.checks.find(({ id }) => id === failed[0])?.fix).toContain(says)
    expect(probed.sent).toBe(sent === 'one' ? 1 : probed.total)
  },
)

describe('a probe suggests settings for a relying party', () => {
  const SID = ['curfew.subject_claims', 'sid']
  const SESSION_REQUIRED = ['backchannel_logout_session_required', true]
  test.each<[ReceiverFault | null, readonly unknown[]]>([
    [null, [SID]],
    ['refuses both', [SID]],
    ['needs sid', [SESSION_REQUIRED]],
    ['demands typ JWT', [['curfew.token_type', 'JWT'], SID]],
    ['demands no typ', [['curfew.token_type', 'none'], SID]],
    ['demands typ JWT and sid alone', [['curfew.token_type', 'JWT'], SID, SESSION_REQUIRED]],
    ['answers unknown_session', [['curfew.already_ended_errors', ['unknown_session']]]],
    ['answers unknown_session before it verifies', []],
    ['knows no session', []],
    ['answers 400 always', []],
  ])('with the fault %s', async (fault, settings) => {
    receiver.fault = fault
    const { report } = await curfew.client.probe(ISSUER, 'shop')
    expect(report?.suggestions.map(({ setting, value }) => [setting, value])).toEqual(settings)
  })
})
