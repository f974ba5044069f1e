import { randomUUID } from 'node:crypto'
import { createRevocations, metricsText, type Revocations } from '@curfew/rs'
import { createTokenVerifier } from '@curfew/rs/jose'
import { createLocalJWKSet, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { type Gate, openGate } from '../support/gate.ts'

// Goal: a resource server with the SDK refuses the tokens that a logout ended, and no others, also around faults of the way to Curfew.
// Method: the real services over HTTP and a real database, tokens of a test issuer, and a proxy that cuts the SDK off.

const API = 'orders-api'
const AUDIENCE = 'https://orders.example'
let curfew: Curfew
let gate: Gate
let revocations: Revocations
let verify: (token: string) => Promise<object>
let sign: (claims: object) => Promise<string>

beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'partial' })
  await curfew.client.putRelyingParty(ISSUER, API, {
    client_name: 'Orders',
    curfew: { channels: { cutoff: {} } },
  })
  gate = await openGate(curfew.url)
  revocations = await startReader()
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  sign = (claims) =>
    new SignJWT({ iss: ISS, aud: AUDIENCE, ...claims } as never)
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt' })
      .setExpirationTime('1h')
      .sign(privateKey)
  const key = createLocalJWKSet({ keys: [await exportJWK(publicKey)] })
  verify = createTokenVerifier({ revocations, key, verify: { issuer: ISS, audience: AUDIENCE } })
})
afterAll(async () => {
  await revocations?.stop()
  await gate?.close()
  await curfew?.stop()
})

async function startReader(maxStalenessMs?: number): Promise<Revocations> {
  const access = { kind: 'clients', issuer: ISSUER, iss: ISS, clients: new Set([API]) } as never
  const reader = createRevocations({
    feed: new URL(`/v1/issuers/${ISSUER}/revocations`, gate.url),
    issuer: ISS,
    key: curfew.keyBoundTo(access, 'revocations:read'),
    maxStalenessMs,
    onEvent: () => undefined,
  })
  reader.start()
  await reader.ready(AbortSignal.timeout(60_000))
  return reader
}
const nowS = () => Math.floor(Date.now() / 1_000)
const postLogout = async (event: object) =>
  (await curfew.client.postLogoutEvent({ iss: ISS, ...event } as never)) as { id: string }
const deniedFor = (token: string) =>
  verify(token).then(
    () => null,
    ({ reason }) => reason,
  )

describe('after a logout', () => {
  test('the tokens of its session are refused and no others, and the logout is acknowledged', async () => {
    const [sid, sub] = [randomUUID(), randomUUID()]
    const [token, other] = await Promise.all([
      sign({ sub, sid, iat: nowS() }),
      sign({ sub, sid: randomUUID(), iat: nowS() }),
    ])
    expect(await deniedFor(token)).toBeNull()
    const { id } = await postLogout({ sid, sub })
    await eventually(async () => expect(await deniedFor(token)).toBe('revoked'))
    expect(await deniedFor(other)).toBeNull()
    await eventually(async () => {
      const { deliveries } = await curfew.client.getLogoutEvent(id)
      expect(deliveries.find(({ client_id }) => client_id === API)).toMatchObject({
        state: 'acknowledged',
        level: 'received',
      })
    })
  })

  test('the older tokens of its subject are refused, and those of a later login are not', async () => {
    const sub = randomUUID()
    const occurredS = nowS() - 2
    const [old, later] = await Promise.all([sign({ sub, iat: occurredS }), sign({ sub, iat: occurredS + 1 })])
    await postLogout({ sub, scope: 'subject', occurred_at: new Date(occurredS * 1_000 + 400).toISOString() })
    await eventually(async () => expect(await deniedFor(old)).toBe('revoked'))
    expect(await deniedFor(later)).toBeNull()
  })

  test('tokens are refused within a second, at the median', async () => {
    const took: number[] = []
    for (let round = 0; round < 9; round++) {
      const token = { iss: ISS, sub: 'alice', sid: randomUUID(), iat: nowS() }
      const postedMs = performance.now()
      await postLogout({ sid: token.sid, sub: token.sub })
      await eventually(() => expect(revocations.isRevoked(token)).toBe(true))
      took.push(performance.now() - postedMs)
    }
    took.sort((one, other) => one - other)
    console.log(`from the post of a logout to the refusal: ${took.map(Math.round).join(', ')} ms`)
    expect(took[4]).toBeLessThan(1_000)
  })
})

test('a process that is cut off knows it, and learns afterwards what happened meanwhile', async () => {
  const reader = await startReader(4_000)
  try {
    const token = { iss: ISS, sub: randomUUID(), sid: randomUUID(), iat: nowS() }
    await eventually(() => expect(reader.decide(token, 'deny')).toBe('live'))
    await gate.shut()
    await postLogout({ sid: token.sid, sub: token.sub })
    await eventually(() => expect(reader.status().stale).toBe(true))
    expect(reader.decide(token, 'deny')).toBe('stale_denied')
    expect(reader.decide(token, 'allow')).toBe('live')
    expect(reader.decide(token, 'introspect')).toBe('introspect')
    expect(metricsText(reader)).toContain(`curfew_rs_stale{issuer="${ISS}"} 1\n`)
    await gate.open()
    await eventually(() => expect(reader.decide(token, 'allow')).toBe('revoked'))
    await eventually(() => expect(reader.status()).toMatchObject({ stale: false, lastError: null }))
    expect(metricsText(reader)).toMatch(/decision="stale_denied"\} [1-9]/)
  } finally {
    await gate.open()
    await reader.stop()
  }
})

test('a process goes on after Curfew was restored from a backup, and keeps what Curfew has lost', async () => {
  const token = { iss: ISS, sub: randomUUID(), sid: randomUUID(), iat: nowS() }
  await postLogout({ sid: token.sid, sub: token.sub })
  await eventually(() => expect(revocations.isRevoked(token)).toBe(true))
  const known = revocations.status().seq ?? 0
  await curfew.db.query('delete from cutoffs where iss = $1 and seq > $2', [ISS, known - 1])
  await curfew.db.query('update cutoff_feeds set seq = $2 where iss = $1', [ISS, known - 1])
  // A snapshot counts once Curfew has caught up with what the process knows.
  await expect.poll(() => revocations.status().seq, { timeout: 100_000 }).toBe(known - 1)
  expect(revocations.isRevoked(token)).toBe(true)
  const next = { ...token, sid: randomUUID() }
  await postLogout({ sid: next.sid, sub: next.sub })
  await eventually(() => expect(revocations.isRevoked(next)).toBe(true))
})
