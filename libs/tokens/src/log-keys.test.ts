import { createPublicKey, generateKeyPairSync, randomBytes, verify } from 'node:crypto'
import { createPartialTree, LogKeyError, leafHash, parseNote } from '@curfew/domain'
import { CompactSign } from 'jose'
import { describe, expect, test } from 'vitest'
import { createLogKeeper, hashedWith, sha256 } from './log-keys.ts'
import { isConsistent, isIncluded, readLogKey, verifyCheckpoint, verifyReceipt } from './log-verify.ts'

// Goal: other tools can verify the log's signatures, and signatures of witnesses do no harm. The log's keys open only with the
// master key.
// Method: the example of C2SP signed-note, and real keys, used rightly and wrongly.

const VKEY = 'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k'
const NOTE = `This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
`
const WITNESS =
  'jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=='
const ROOT = '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
const CHECKPOINT = { origin: 'curfew.example/log', size: 0, root: ROOT }

async function aLog(masterKey: Uint8Array = randomBytes(32), origin: string | null = CHECKPOINT.origin) {
  const keeper = createLogKeeper(masterKey)
  const log = await keeper.newLog(origin)
  const signer = await keeper.signer(log)
  const key = await readLogKey(signer.vkey)
  if (key === null) throw new Error('the verifier key of the log cannot be read')
  return { keeper, log, signer, key }
}

test('the example key of the C2SP signed-note specification verifies its example note', async () => {
  const key = await readLogKey(VKEY)
  expect(key?.origin).toBe('example.com/foo')
  const note = parseNote(NOTE)
  const signature = Buffer.from(note?.signatures[0]?.signature ?? '', 'base64')
  expect(signature.subarray(0, 4).toString('hex')).toBe('530d903a')
  const publicKey = createPublicKey({ key: { ...key?.jwk }, format: 'jwk' })
  expect(verify(null, Buffer.from(note?.text ?? ''), publicKey, signature.subarray(4))).toBe(true)
})

test.each([
  ['another key id', VKEY.replace('530d903a', '530d903b')],
  ['another name', VKEY.replace('/foo', '/bar')],
  ['another kind of signature', VKEY.replace('+Aeky', '+Beky')],
  ['a character more', `${VKEY}=`],
  ['no key', 'hello'],
  ['a key of another curve', '{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}'],
])('a text with %s is not read as a verifier key', async (_, text) => {
  expect(await readLogKey(text)).toBeNull()
})

describe('a checkpoint', () => {
  test('has the same signature each time, and verifies with added witness signatures', async () => {
    const { signer, key } = await aLog()
    const note = signer.signCheckpoint(CHECKPOINT)
    expect(signer.signCheckpoint(CHECKPOINT)).toBe(note)
    expect(verifyCheckpoint(note, key)).toEqual(CHECKPOINT)
    expect(verifyCheckpoint(`${note}— witness.example.com/w1 ${WITNESS}\n`, key)).toEqual(CHECKPOINT)
  })

  test('is rejected with another key, for another log, without the signature of the log, or after a change', async () => {
    const { signer, key } = await aLog()
    const other = await aLog()
    const note = signer.signCheckpoint(CHECKPOINT)
    expect(verifyCheckpoint(note, other.key)).toBeNull()
    expect(verifyCheckpoint(note, { ...key, origin: 'curfew.example/other' })).toBeNull()
    const [text = ''] = note.split('\n\n')
    expect(verifyCheckpoint(`${text}\n\n— witness.example.com/w1 ${WITNESS}\n`, key)).toBeNull()
    expect(verifyCheckpoint(note.replace('\n0\n', '\n1\n'), key)).toBeNull()
  })

  test('of another log is not consistent with a checkpoint of this log', () => {
    expect(isConsistent({ ...CHECKPOINT, origin: 'another' }, CHECKPOINT, [])).toBe(false)
    expect(isConsistent(CHECKPOINT, CHECKPOINT, [])).toBe(true)
  })
})

test('a receipt verifies only with the key that signed it, and only if it has the claims of a receipt', async () => {
  const { signer, key, log } = await aLog()
  const jws = signer.signReceipt('{"event":{},"targets":[],"log":{}}')
  expect((await verifyReceipt(jws, key))?.claims).toEqual({ event: {}, targets: [], log: {} })
  for (const other of ['null', '5', '{}', '{"event":{},"targets":{},"log":{}}'])
    expect(await verifyReceipt(signer.signReceipt(other), key)).toBeNull()
  expect(await verifyReceipt(jws, (await aLog()).key)).toBeNull()
  const jwks = await readLogKey(JSON.stringify({ origin: log.origin, keys: [log.publicJwk] }))
  expect(jwks).toEqual(key)
})

test('a receipt verifies with the public key in PEM, and with the header Ed25519 (RFC 9864)', async () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString()
  const key = await readLogKey(`\uFEFF# the log\r\n${pem.replaceAll('\n', '\r\n')}`)
  if (key === null) throw new Error('the key was not read')
  for (const alg of ['EdDSA', 'Ed25519']) {
    const jws = await new CompactSign(Buffer.from('{"event":{},"targets":[],"log":{}}'))
      .setProtectedHeader({ alg, kid: key.kid, typ: 'curfew-receipt+jwt' })
      .sign(privateKey)
    expect(await verifyReceipt(jws, key)).not.toBeNull()
  }
  const other = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  expect(await readLogKey(other)).toBeNull()
})

describe('a proof verifies in its canonical encoding only:', () => {
  const base64url = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

  test('a receipt', async () => {
    const { signer, key } = await aLog()
    const jws = signer.signReceipt('{"event":{},"targets":[],"log":{}}')
    // The last character of base64url has unused bits.
    const last = base64url.charAt(base64url.indexOf(jws.at(-1) ?? '') + 1)
    for (const other of [`${jws}\n`, `${jws}==`, jws.replace('.', '. '), jws.slice(0, -1) + last, `${jws}.`])
      expect(await verifyReceipt(other, key)).toBeNull()
    expect(await verifyReceipt(jws, key)).not.toBeNull()
  })

  test('a checkpoint', async () => {
    const { signer, key } = await aLog()
    const note = signer.signCheckpoint(CHECKPOINT)
    expect(verifyCheckpoint(note.replace(/=\n$/, '\n'), key)).toBeNull()
    expect(verifyCheckpoint(`${note}— witness.example.com/w1 ${WITNESS.slice(0, -1)}\n`, key)).toBeNull()
  })

  test('an inclusion proof', () => {
    const tree = createPartialTree(sha256)
    const [first, second] = ['one', 'other'].map((text) => leafHash(sha256(Buffer.from(text)), sha256))
    for (const leaf of [first, second]) tree.add(leaf ?? Buffer.of())
    const root = Buffer.from(tree.root()).toString('base64')
    const sibling = Buffer.from(second ?? []).toString('base64')
    const holds = (proof: string) =>
      isIncluded(Buffer.from('one'), { ...CHECKPOINT, size: 2, root }, { index: 0, proof: [proof] })
    expect(holds(sibling)).toBe(true)
    for (const text of [`${sibling}\n`, `!${sibling}`, sibling.slice(0, -1), `${sibling}AAAA`])
      expect(holds(text)).toBe(false)
  })
})

describe('the keys of a log', () => {
  test('open only with the current or the old master key', async () => {
    const masterKey = randomBytes(32)
    const { log } = await aLog(masterKey)
    await createLogKeeper(randomBytes(32), masterKey).signer(log)
    await expect(createLogKeeper(randomBytes(32)).signer(log)).rejects.toThrow(LogKeyError)
    await expect(createLogKeeper(randomBytes(32)).subjectHash(log)).rejects.toThrow(LogKeyError)
  })

  test('do not open as one another', async () => {
    const { keeper, log } = await aLog()
    const swapped = { ...log, sealedSubjectKey: log.sealedPrivateKey }
    await expect(keeper.subjectHash(swapped)).rejects.toThrow(LogKeyError)
  })

  test('give a log without a configured origin a unique one', async () => {
    const [one, other] = [await aLog(undefined, null), await aLog(undefined, null)]
    expect(one.log.origin).toMatch(/^curfew\.internal\/[0-9a-f]{16}$/)
    expect(one.log.origin).not.toBe(other.log.origin)
  })

  test('hash a value the same within one event, and differently for another event', async () => {
    const { keeper, log } = await aLog()
    const hash = await keeper.subjectHash(log)
    expect(hash.of('event')('alice')).toBe(hash.of('event')('alice'))
    const others = [hash.of('event')('alice'), hash.of('event')('bob'), hash.of('other')('alice')]
    expect(new Set(others).size).toBe(3)
    expect(hashedWith(hash.keyOf('event'))('alice')).toBe(others[0])
  })
})
