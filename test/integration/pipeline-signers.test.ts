import { generateKeyPairSync } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'
import { openSigner } from '../support/signer.ts'

// Goal: a logout is signed by the IdP's own key, wherever that key is. A logout that cannot be signed waits, as for an
// unavailable relying party. Method: all services, a real signer, and a relying party that verifies.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew()
})
afterAll(() => curfew.stop())

test('an imported key signs with the kid of the IdP', async () => {
  const jwk = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({ format: 'jwk' })
  await curfew.client.addKey(ISSUER, { alg: 'ES384', jwk: { ...jwk, kid: 'idp-2026' } })
  await using shop = await openRelyingParty(curfew, { clientId: 'shop', algorithm: 'ES384' })
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: ['shop'] })
  const [received] = await shop.told(1)
  expect(received?.header).toEqual({ alg: 'ES384', kid: 'idp-2026', typ: 'logout+jwt' })
  expect(received?.verification.ok).toBe(true)
})

test.each(['curfew', 'vault'] as const)(
  'a remote key signs (%s); while its signer is unavailable, nothing is sent and nothing is lost',
  async (flavour) => {
    const algorithm = flavour === 'vault' ? 'PS256' : 'ES256'
    const pair =
      flavour === 'vault'
        ? generateKeyPairSync('rsa', { modulusLength: 2_048 })
        : generateKeyPairSync('ec', { namedCurve: 'P-256' })
    await using signer = await openSigner(pair.privateKey.export({ format: 'jwk' }), { algorithm, flavour })
    await curfew.client.addKey(ISSUER, {
      alg: algorithm,
      signer: { url: signer.url, credential: 'c', flavour },
      public_jwk: { ...pair.publicKey.export({ format: 'jwk' }), kid: `kms-${flavour}` },
    })
    await using rp = await openRelyingParty(curfew, {
      clientId: `rp ${flavour}`,
      algorithm,
      curfew: { retry_schedule_ms: [1_000, 1_000, 1_000, 1_000, 1_000] },
    })
    signer.fail(503)
    const { id } = await curfew.client.postLogoutEvent({
      iss: ISS,
      sub: 'alice',
      sid: 's',
      clients: [rp.clientId],
    })
    const waiting = await eventually(async () => {
      const { items } = await curfew.client.listDeliveries({ event_id: id })
      const found = await curfew.client.getDelivery(items[0]?.id ?? '')
      expect(found.attempts.length).toBeGreaterThanOrEqual(3)
      return found
    })
    expect(waiting).toMatchObject({
      attempt_count: 0,
      attempts: [
        { outcome: 'unavailable', error_class: 'signer', error_description: expect.stringContaining('503') },
        {},
        {},
      ],
    })
    expect(rp.received).toEqual([])
    // A different key than the registered one: a token that it signs must not reach an RP.
    const other =
      flavour === 'vault'
        ? generateKeyPairSync('rsa', { modulusLength: 2_048 })
        : generateKeyPairSync('ec', { namedCurve: 'P-256' })
    signer.use(other.privateKey.export({ format: 'jwk' }))
    signer.fail(null)
    const calls = signer.calls.length
    await eventually(() => expect(signer.calls.length).toBeGreaterThan(calls))
    signer.use(pair.privateKey.export({ format: 'jwk' }))
    const [received] = await rp.told(1)
    expect(received).toMatchObject({
      header: { kid: `kms-${flavour}`, alg: algorithm },
      verification: { ok: true },
    })
    expect(rp.received).toHaveLength(1)
  },
)

test('a registration under a changed master key is refused with the reason, and readiness names the master key', async () => {
  await curfew.client.addKey(ISSUER, { alg: 'EdDSA' })
  // A JWE that no key of Curfew can decrypt.
  await curfew.db.query(
    "update signing_keys set sealed_private_key = 'eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0.....'",
  )
  await curfew.client.putIssuer('late', { iss: 'https://late.example' })
  await curfew.db.query("update signing_keys set issuer = 'late' where algorithm = 'EdDSA'")
  const response = await curfew.call('PUT', '/v1/issuers/late/relying-parties/a', {
    backchannel_logout_uri: 'https://rp.example/logout',
    id_token_signed_response_alg: 'EdDSA',
  })
  expect([response.status, await response.json()]).toEqual([
    500,
    expect.objectContaining({
      title: 'Signing key cannot be opened',
      detail: expect.stringContaining('CURFEW_MASTER_KEY'),
      trace_id: expect.any(String),
    }),
  ])
  expect(await curfew.client.readiness()).toMatchObject({ unavailable: ['master-key'] })
})
