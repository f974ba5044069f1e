import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ENCRYPTION_ALGORITHMS, type EncryptionAlgorithm } from '@curfew/domain'
import { createLogoutTokenVerifier } from '@curfew/rp'
import { compactDecrypt, exportJWK, generateKeyPair } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal (BCL-19): a relying party that registered for encrypted ID tokens gets signed logout tokens that only it can decrypt, and
// an attempt without a usable key reports what is missing. Method: real relying parties that decrypt with jose.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew()
})
afterAll(() => curfew.stop())

interface SessionDelivery {
  readonly header: Readonly<Record<string, unknown>>
  readonly claims: Readonly<Record<string, unknown>>
}

/** A relying party that publishes a key set, and decrypts and verifies the tokens that it receives. */
async function openEncryptedRp(alg: EncryptionAlgorithm) {
  const newKey = async (kid: string) => {
    const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
    return { kid, privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid, use: 'enc' } }
  }
  let key = await newKey('first')
  let status = 200
  let fetches = 0
  const received: SessionDelivery[] = []
  const server = createServer(async (request, response) => {
    if (request.method === 'GET') {
      fetches += 1
      response.writeHead(status, { 'content-type': 'application/jwk-set+json' })
      response.end(
        JSON.stringify({ keys: [{ ...key.publicJwk, kid: 'for signatures', use: 'sig' }, key.publicJwk] }),
      )
      return
    }
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const token = new URLSearchParams(Buffer.concat(chunks).toString('utf8')).get('logout_token') ?? ''
    try {
      const { plaintext, protectedHeader } = await compactDecrypt(token, key.privateKey)
      const verified = await createLogoutTokenVerifier({
        issuer: ISS,
        clientId: alg,
        jwks: await curfew.client.getJwks(ISSUER),
      }).verify(new TextDecoder().decode(plaintext))
      if (!verified.ok) throw new Error(verified.description)
      received.push({ header: protectedHeader, claims: { ...verified.claims } })
      response.writeHead(200).end()
    } catch {
      response.writeHead(400).end()
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    metadata: {
      backchannel_logout_uri: `${origin}/logout`,
      jwks_uri: `${origin}/jwks`,
      id_token_signed_response_alg: 'ES256',
      id_token_encrypted_response_alg: alg,
    },
    received,
    publicJwk: () => key.publicJwk,
    fetches: () => fetches,
    rotate: async (kid: string) => {
      key = await newKey(kid)
    },
    answer: (next: number) => {
      status = next
    },
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
    },
  }
}

const logout = (client: string, sid: string) =>
  curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', sid, clients: [client] })

describe('a relying party with encrypted ID tokens', () => {
  test.each(ENCRYPTION_ALGORITHMS)('gets a signed token inside an encrypted one with %s', async (alg) => {
    await using rp = await openEncryptedRp(alg)
    await curfew.client.putRelyingParty(ISSUER, alg, rp.metadata)
    await logout(alg, 's1')
    await eventually(() => expect(rp.received).toHaveLength(1))
    expect(rp.received[0]).toMatchObject({
      header: { alg, enc: 'A128CBC-HS256', cty: 'JWT', iss: ISS, kid: 'first' },
      claims: { iss: ISS, aud: alg, sid: 's1' },
    })
    expect(rp.fetches()).toBe(1)
  })

  test('may register its keys by value, and choose the content encryption', async () => {
    const alg = 'ECDH-ES+A256KW'
    await using rp = await openEncryptedRp(alg)
    const { jwks_uri: _, ...metadata } = rp.metadata
    await curfew.client.putRelyingParty(ISSUER, alg, {
      ...metadata,
      jwks: { keys: [rp.publicJwk()] },
      id_token_encrypted_response_enc: 'A256GCM',
    })
    await logout(alg, 's2')
    await eventually(() => expect(rp.received).toHaveLength(1))
    expect(rp.received[0]?.header).toMatchObject({ alg, enc: 'A256GCM', kid: 'first' })
    expect(rp.fetches()).toBe(0)
  })

  test('is retried as unavailable if its key set does not answer, and as refusing if its key set has no suitable key', async () => {
    await using rp = await openEncryptedRp('RSA-OAEP')
    rp.answer(500)
    const client_id = 'unavailable'
    await curfew.client.putRelyingParty(ISSUER, client_id, rp.metadata)
    await logout(client_id, 's3')
    const waiting = await eventually(async () => {
      const [delivery] = (await curfew.client.listDeliveries({ client_id })).items
      const found = await curfew.client.getDelivery(delivery?.id ?? '')
      expect([found.state, found.attempts.length >= 3]).toEqual(['pending', true])
      return found
    })
    expect(waiting).toMatchObject({
      state: 'pending',
      attempt_count: 0,
      attempts: [
        {
          outcome: 'unavailable',
          error_class: 'client_keys',
          error_description: expect.stringContaining('500'),
        },
        {},
        {},
      ],
    })
    // The endpoint is on the same server: it has received nothing, above all no unencrypted token.
    expect(rp.received).toEqual([])
    expect(rp.fetches()).toBe(1)

    await using other = await openEncryptedRp('ECDH-ES')
    await curfew.client.putRelyingParty(ISSUER, 'keyless', {
      ...other.metadata,
      id_token_encrypted_response_alg: 'RSA-OAEP-256',
    })
    await logout('keyless', 's4')
    const keyless = await eventually(async () => {
      const [delivery] = (await curfew.client.listDeliveries({ client_id: 'keyless' })).items
      const found = await curfew.client.getDelivery(delivery?.id ?? '')
      expect([found.state, found.attempts.length]).toEqual(['pending', 1])
      return found
    })
    // The RP may be deploying: the delivery becomes a dead letter only after three more attempts without a key.
    expect(keyless).toMatchObject({
      ...{ state: 'pending', attempt_count: 0 },
      attempts: [{ outcome: 'undeliverable', error_class: 'no_encryption_key' }],
    })
    expect(other.received).toEqual([])
  })
})

describe('a registration for encrypted tokens', () => {
  const PATH = `/v1/issuers/${ISSUER}/relying-parties/faulty`
  const URI = 'https://rp.example/logout'
  const keys = (key: object) => ({ jwks: { keys: [key] } })
  const EC = { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA' }
  test.each([
    [
      'an algorithm that is broken',
      { id_token_encrypted_response_alg: 'RSA1_5' },
      '/id_token_encrypted_response_alg',
    ],
    ['a shared secret', { id_token_encrypted_response_alg: 'dir' }, '/id_token_encrypted_response_alg'],
    [
      'an enc without an alg',
      { id_token_encrypted_response_enc: 'A128GCM' },
      '/id_token_encrypted_response_enc',
    ],
    [
      'an enc that does not exist',
      { id_token_encrypted_response_alg: 'RSA-OAEP', id_token_encrypted_response_enc: 'A128CBC' },
      '/id_token_encrypted_response_enc',
    ],
    ['no key', { id_token_encrypted_response_alg: 'RSA-OAEP' }, '/jwks_uri'],
    ['a key of another type', { id_token_encrypted_response_alg: 'RSA-OAEP', ...keys(EC) }, '/jwks'],
    [
      'a key that is not a point of its curve',
      { id_token_encrypted_response_alg: 'ECDH-ES', ...keys(EC) },
      '/jwks',
    ],
    [
      'a key for signatures',
      { id_token_encrypted_response_alg: 'ECDH-ES', ...keys({ ...EC, use: 'sig' }) },
      '/jwks',
    ],
    [
      'a jwks_uri whose address is not allowed',
      { id_token_encrypted_response_alg: 'RSA-OAEP', jwks_uri: 'https://10.1.2.3/jwks' },
      '/jwks_uri',
    ],
  ])('with %s is refused', async (_what, metadata, pointer) => {
    const response = await curfew.call('PUT', PATH, { backchannel_logout_uri: URI, ...metadata })
    const problem = (await response.json()) as { errors?: readonly { pointer: string }[] }
    expect([response.status, problem.errors?.map((fault) => fault.pointer)]).toEqual([400, [pointer]])
  })
})
