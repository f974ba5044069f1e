import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { keyIn } from './key-file.ts'

// Goal: the key files that people have are read, and any other file is refused with the way out and without its content.

const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const ed = generateKeyPairSync('ed25519')
const pem = (key: KeyObject, type: 'pkcs8' | 'pkcs1' | 'sec1') =>
  key.export({ type, format: 'pem' }).toString()
const jwk = (key: KeyObject, members: object = {}) => ({ ...key.export({ format: 'jwk' }), ...members })
const read = (text: string, choice: { kid?: string; alg?: string } = {}) =>
  keyIn(text, { path: 'key.pem', ...choice })
const NO_ALG = /does not name the algorithm .* signs RS256.*--alg/

describe('PEM', () => {
  test.each([
    ['PKCS#8 of RSA', pem(rsa.privateKey, 'pkcs8'), rsa],
    ['PKCS#1', pem(rsa.privateKey, 'pkcs1'), rsa],
    ['PKCS#8 of EC', pem(ec.privateKey, 'pkcs8'), ec],
    ['SEC1', pem(ec.privateKey, 'sec1'), ec],
    ['PKCS#8 of Ed25519', pem(ed.privateKey, 'pkcs8'), ed],
  ])('in %s is read, also with a byte order mark, CRLF and text around it', async (_, text, pair) => {
    const expected = jwk(pair.privateKey)
    expect((await read(text)).jwk).toEqual(expected)
    const pasted = `\uFEFFBag Attributes\r\n${text.replaceAll('\n', '\r\n')}-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----\n`
    expect((await read(pasted)).jwk).toEqual(expected)
  })

  test('takes the kid and the algorithm of the command; an RSA key without one signs RS256, which is said', async () => {
    const text = pem(rsa.privateKey, 'pkcs8')
    expect(await read(text, { kid: '2026', alg: 'PS256' })).toMatchObject({
      jwk: { kid: '2026' },
      alg: 'PS256',
      notes: [],
    })
    expect(await read(text)).toMatchObject({ alg: 'RS256', notes: [expect.stringMatching(NO_ALG)] })
    expect(await read(pem(ec.privateKey, 'sec1'))).toMatchObject({ alg: undefined, notes: [] })
  })

  test.each([
    [
      'an encrypted key',
      ed.privateKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'hunter2' }),
      /must not be encrypted: .*openssl pkey -in/,
    ],
    [
      'a public key',
      ed.publicKey.export({ type: 'spki', format: 'pem' }),
      /no private key: it has a PUBLIC KEY/,
    ],
    ['two keys', pem(ed.privateKey, 'pkcs8') + pem(ec.privateKey, 'sec1'), /several/],
    ['a damaged key', pem(ed.privateKey, 'pkcs8').replace(/\nM.{10}/, '\nMAAAAAAAAAA'), /damaged/],
    ['a key that is cut off', pem(ed.privateKey, 'pkcs8').slice(0, 70), /cut off/],
    ['a binary file', '0\u0082\u0001\ufffd', /openssl pkey -inform DER.*PKCS#12/],
    ['JSON that is cut off', `{"d":"${jwk(ed.privateKey).d}"`, /neither a JWK/],
  ])('%s is refused with the way out, and without its content', async (_, text, words) => {
    const refused = await read(String(text)).catch((error: Error) => error.message)
    expect(refused).toMatch(words)
    expect(refused).toMatch(/^key\.pem .*\.$/)
    expect(refused).not.toContain(String(jwk(ed.privateKey).d))
  })
})

describe('a JWK Set', () => {
  const encryption = jwk(rsa.privateKey, { kid: 'enc-1', use: 'enc', alg: 'RSA-OAEP' })
  const secret = { kty: 'oct', kid: 'hmac-1', k: 'c2VjcmV0', alg: 'HS256' }
  const signing = jwk(ec.privateKey, { kid: 'sig-1', use: 'sig', alg: 'ES256' })
  const spare = jwk(ed.privateKey, { kid: 'sig-2', alg: 'Ed25519' })
  const set = (...keys: readonly object[]) => JSON.stringify({ keys })

  test('gives its only private key that can sign, and names the others with the reason', async () => {
    const published = jwk(ed.publicKey, { kid: 'public', alg: 'EdDSA' })
    const found = await read(`\uFEFF${set(encryption, published, secret, signing)}`)
    expect(found.jwk).toEqual(signing)
    expect(found.notes).toEqual([
      expect.stringMatching(
        /only sig-1 can sign\. Passed over: enc-1 \(.*\); hmac-1 \(.*shared secret.*\)\./,
      ),
    ])
    expect((await read(JSON.stringify([signing]))).jwk).toEqual(signing)
  })

  test('with several is refused with their kids, and --kid chooses one', async () => {
    await expect(read(set(signing, spare, encryption))).rejects.toThrow(/--kid: sig-1, sig-2\.$/)
    expect((await read(set(signing, spare), { kid: 'sig-2' })).jwk).toEqual(spare)
    await expect(read(set(signing, spare), { kid: 'sig-3' })).rejects.toThrow(
      /no key with the kid sig-3\. It has sig-1, sig-2\./,
    )
    const { kid, ...nameless } = spare as typeof spare & { kid: string }
    const named = await read(set(signing, nameless)).catch((error: Error) => error.message)
    const thumbprint = /--kid: sig-1, ([\w-]{43})\.$/.exec(String(named))?.[1] ?? ''
    expect((await read(set(signing, nameless), { kid: thumbprint })).jwk).toEqual(nameless)
  })

  test('without a private key that can sign is refused with the reasons', async () => {
    const without = () => read(set(encryption, jwk(rsa.privateKey, { kid: 'k', alg: 'ES256K' })))
    await expect(without()).rejects.toThrow(/can sign: enc-1 .*; k \(alg must not be ES256K: .*\)\.$/)
    await expect(read(set(jwk(ed.publicKey)))).rejects.toThrow(/no private key/)
    await expect(read(set())).rejects.toThrow(/no private key/)
  })
})

test.each(['{}', '{"alg":"ES256"}', '[{"client_id":"shop"}]'])('%s holds no key', async (text) => {
  await expect(read(text)).rejects.toThrow(/^key\.pem holds no key: .* JWK, a JWK Set or a key in PEM\.$/)
})

test('a single JWK without a kid gets the kid of the command; another kid than its own is refused', async () => {
  const text = JSON.stringify(jwk(ed.privateKey))
  expect((await read(text, { kid: 'mine' })).jwk.kid).toBe('mine')
  await expect(read(JSON.stringify(jwk(ed.privateKey, { kid: 'a' })), { kid: 'b' })).rejects.toThrow(/kid b/)
})
