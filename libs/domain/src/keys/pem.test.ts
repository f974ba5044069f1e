import { describe, expect, it } from 'vitest'
import { readCertificatePem, readPem, readPrivateKeyPem, writePem } from './pem.ts'

const BASE64 = `${'A'.repeat(64)}${'b'.repeat(30)}==`
const STRICT = writePem({ label: 'CERTIFICATE', base64: BASE64 })
const BLOCK = { label: 'CERTIFICATE', base64: BASE64, encrypted: false }

describe('readPem', () => {
  it('reads the block that writePem wrote, in lines of 64 characters', () => {
    expect(STRICT.split('\n')[1]).toHaveLength(64)
    expect(readPem(STRICT)).toEqual({ blocks: [BLOCK], outside: '' })
  })

  it.each([
    ['CRLF line endings', STRICT.replaceAll('\n', '\r\n')],
    ['CR line endings', STRICT.replaceAll('\n', '\r')],
    ['one long line', `-----BEGIN CERTIFICATE-----\n${BASE64}\n-----END CERTIFICATE-----`],
    ['no line ending at all', `-----BEGIN CERTIFICATE-----${BASE64}-----END CERTIFICATE-----`],
    ['indented lines with blank lines between', STRICT.replaceAll('\n', '\n\n   \t')],
    ['a byte order mark', `\uFEFF${STRICT}`],
  ])('reads a block with %s', (_, text) => {
    expect(readPem(text)).toEqual({ blocks: [BLOCK], outside: '' })
  })

  it('returns the text around the blocks, such as explanations (RFC 7468 5.2)', () => {
    const text = `Subject: CN=Atlantis\n${STRICT}Issuer: CN=Atlantis\n${STRICT}`
    expect(readPem(text)).toEqual({
      blocks: [BLOCK, BLOCK],
      outside: 'Subject: CN=Atlantis\nIssuer: CN=Atlantis',
    })
  })

  it.each([
    ['an unclosed block', '-----BEGIN CERTIFICATE-----\nAAAA\n'],
    ['a block that ends with another label', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END X-----'],
    ['a block that is not base64', '-----BEGIN CERTIFICATE-----\nAA*A\n-----END CERTIFICATE-----'],
    ['a block without content', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----'],
  ])('takes %s for text outside', (_, text) => {
    expect(readPem(text)).toEqual({ blocks: [], outside: text.trim() })
  })

  it('reads a block after an unclosed one', () => {
    expect(readPem(`-----BEGIN X-----\n${STRICT}`).blocks).toEqual([BLOCK])
  })

  it.each([
    ['PKCS#8', `-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----`],
    [
      'PKCS#1',
      '-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----',
    ],
  ])('says that a %s key is encrypted', (_, text) => {
    expect(readPem(text).blocks).toMatchObject([{ base64: 'AAAA', encrypted: true }])
  })
})

describe('readCertificatePem', () => {
  it('returns each certificate in the standard form, without the text around it', () => {
    const text = `\uFEFF 0 s:CN = Atlantis\r\n${STRICT.replaceAll('\n', '\r\n')}---\r\nServer certificate\r\n${STRICT}`
    expect(readCertificatePem(text)).toEqual({ ok: true, certificates: [STRICT, STRICT] })
  })

  it('takes the labels of older programs', () => {
    for (const label of ['X509 CERTIFICATE', 'X.509 CERTIFICATE'])
      expect(readCertificatePem(writePem({ label, base64: BASE64 }))).toEqual({
        ok: true,
        certificates: [STRICT],
      })
  })

  it.each([
    [
      'a private key beside a certificate',
      `${STRICT}${writePem({ label: 'PRIVATE KEY', base64: 'AAAA' })}`,
      /the PRIVATE KEY$/,
    ],
    ['a list of revoked certificates', writePem({ label: 'X509 CRL', base64: 'AAAA' }), /the X509 CRL$/],
    ['a block that is cut off after a good one', `${STRICT}-----BEGIN CERTIFICATE-----\nAAAA`, /cut off/],
    ['a cut private key beside a certificate', `${STRICT}-----BEGIN PRIVATE KEY-----\nAAAA`, /cut off/],
    ['the name of a file', '/etc/ssl/ca.pem', /one or more certificates/],
    ['an empty text', ' \n', /one or more certificates/],
  ])('refuses %s, and does not quote it', (_, text, detail) => {
    expect(readCertificatePem(text)).toEqual({ ok: false, detail: expect.stringMatching(detail) })
    expect(JSON.stringify(readCertificatePem(text))).not.toContain('AAAA')
  })
})

describe('readPrivateKeyPem', () => {
  const key = (label: string) => writePem({ label, base64: BASE64 })

  it.each(['PRIVATE KEY', 'RSA PRIVATE KEY', 'EC PRIVATE KEY'])(
    'reads a %s in the standard form',
    (label) => {
      const text = `\uFEFFBag Attributes\r\n${key(label).replaceAll('\n', '\r\n')}`
      expect(readPrivateKeyPem(text)).toEqual({ ok: true, key: key(label) })
    },
  )

  it('ignores the certificates and the parameters beside the key', () => {
    const text = `${key('EC PARAMETERS')}${key('EC PRIVATE KEY')}${STRICT}`
    expect(readPrivateKeyPem(text)).toEqual({ ok: true, key: key('EC PRIVATE KEY') })
  })

  it.each([
    ['two keys', key('PRIVATE KEY') + key('EC PRIVATE KEY'), /several/],
    ['a certificate', STRICT, /a private key in PEM$/],
    ['a key that is cut off', key('PRIVATE KEY').slice(0, 60), /cut off/],
    ['an encrypted key', key('ENCRYPTED PRIVATE KEY'), /openssl pkey/],
    ['a key of OpenSSH', key('OPENSSH PRIVATE KEY'), /ssh-keygen/],
  ])('refuses %s, and names the remedy', (_, text, detail) => {
    expect(readPrivateKeyPem(text)).toEqual({ ok: false, detail: expect.stringMatching(detail) })
    expect(JSON.stringify(readPrivateKeyPem(text))).not.toContain('AAAA')
  })
})

describe('a hostile text', () => {
  const LENGTH = 512 * 1024
  // A search that starts again at each character takes minutes for this length.
  it.each([
    ['a header and a line of blanks', `-----BEGIN X-----\nA:\n${' '.repeat(LENGTH)}-----END X-----`],
    ['blocks that are not closed', '-----BEGIN X-----\n'.repeat(LENGTH / 18)],
    ['blocks in one another', `${'-----BEGIN X-----\nA:\n'.repeat(LENGTH / 21)}-----END X-----`],
  ])('with %s takes time linear in its length', { timeout: 10_000 }, (_, text) => {
    expect(readPem(text).blocks).toEqual([])
  })
})
