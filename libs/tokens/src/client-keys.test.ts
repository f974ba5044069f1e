import { randomBytes } from 'node:crypto'
import { type ClientId, ClientKeyError, type IssuerName } from '@curfew/domain'
import { CompactEncrypt } from 'jose'
import { expect, test } from 'vitest'
import { createClientKeySealer } from './client-keys.ts'
import { createKeyMaker } from './key-maker.ts'

// Goal: a client's private key is stored only sealed. It opens only for the relying party and with the master key that it was
// sealed with.
// Method: real keys; other owners, other master keys and changed texts.

const MASTER_KEY = randomBytes(32)
const MAIL = { issuer: 'main' as IssuerName, clientId: 'mail' as ClientId }
const PEM = '-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n'
const sealer = createClientKeySealer(MASTER_KEY)

test('a sealed key opens to the same text, and does not reveal it', async () => {
  const sealed = await sealer.seal(PEM, MAIL)
  expect(sealed).not.toContain(Buffer.from('hunter2').toString('base64url').slice(1, -2))
  expect(await sealer.seal(PEM, MAIL)).not.toBe(sealed)
  expect(await createClientKeySealer(MASTER_KEY).open(sealed, MAIL)).toBe(PEM)
})

test.each([
  ['another client', { ...MAIL, clientId: 'wiki' as ClientId }],
  ['another issuer', { ...MAIL, issuer: 'two' as IssuerName }],
])('a sealed key does not open for %s', async (_case, owner) => {
  await expect(sealer.open(await sealer.seal(PEM, MAIL), owner)).rejects.toThrow(ClientKeyError)
})

test('a key that another master key sealed, or that was changed, does not open, and the error contains no secret', async () => {
  const sealed = await sealer.seal(PEM, MAIL)
  const changed = sealed.replace(/.(?=.{4}$)/, (letter) => (letter === 'A' ? 'B' : 'A'))
  const attempts = [
    createClientKeySealer(randomBytes(32)).open(sealed, MAIL),
    sealer.open(changed, MAIL),
    sealer.open('', MAIL),
    sealer.open(PEM, MAIL),
  ]
  for (const result of await Promise.allSettled(attempts)) {
    expect(result).toMatchObject({ status: 'rejected', reason: expect.any(ClientKeyError) })
    const text = result.status === 'rejected' ? String(result.reason) : ''
    expect(text).toMatch(/mail at main.*CURFEW_MASTER_KEY/)
    expect(text).not.toContain('hunter2')
  }
})

test('a client key and another secret under the same master key do not open as each other', async () => {
  const { issuer: iss, clientId: sub } = MAIL
  const other = await new CompactEncrypt(Buffer.from('other'))
    .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', iss, sub })
    .encrypt(MASTER_KEY)
  await expect(sealer.open(other, MAIL)).rejects.toThrow(ClientKeyError)
  const maker = createKeyMaker({ masterKey: MASTER_KEY })
  const signing = await maker.generate(MAIL.issuer, 'EdDSA')
  await expect(sealer.open(signing.sealedPrivateKey, MAIL)).rejects.toThrow(ClientKeyError)
  const client = { ...signing, sealedPrivateKey: await sealer.seal('{}', MAIL) }
  await expect(maker.open(client)).rejects.toThrow(/another key/)
})
