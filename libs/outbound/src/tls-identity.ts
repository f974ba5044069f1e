import { createPrivateKey, hash, X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContext } from 'node:tls'
import { readCertificatePem, readPrivateKeyPem } from '@curfew/domain'
import { unusable } from './tls-failures.ts'

/** An RP's own TLS settings: the CAs that it is trusted by, and the client certificate that we show to it. All in PEM. */
export interface TlsIdentity {
  /** The only CAs that are trusted for the RP: roots, issuing CAs, or certificates of servers. Null: the default CAs. */
  readonly ca: string | null
  /** Shown to an RP that requests a client certificate (mTLS): a chain, ours first, and the private key of the first. */
  readonly client: { readonly certificate: string; readonly key: string } | null
}

/** A fault in the TLS settings of an RP: the member to change, and what is wrong with it. The text holds no secret. */
export interface TlsFault {
  readonly member: 'ca' | 'client_certificate' | 'client_key'
  readonly detail: string
}

/** TLS settings to check, all in PEM. A member is undefined if it was not given. */
export interface GivenTls {
  readonly ca?: string | undefined
  readonly client_certificate?: string | undefined
  readonly client_key?: string | undefined
}

/** Requires at least TLS 1.2 (RFC 9325 3.1.1). @throws the error of node:tls for unusable certificates or keys. */
export function secureContextOf(
  identity: TlsIdentity | null,
  { ca }: { ca: readonly string[] | null },
): SecureContext {
  const trusted = identity?.ca == null ? ca : [identity.ca]
  const client = identity?.client ?? null
  return createSecureContext({
    minVersion: 'TLSv1.2',
    ...(trusted !== null && { ca: [...trusted] }),
    // An owner may name the issuing CA alone: its root is often not at hand, and a pinned certificate is enough for OpenSSL.
    allowPartialTrustChain: identity?.ca != null,
    ...(client !== null && { cert: client.certificate, key: client.key }),
  })
}

const fingerprints = new WeakMap<TlsIdentity, string>()

/** Equal for identities with the same content, and different for all others. */
export function fingerprintOf(identity: TlsIdentity): string {
  const known = fingerprints.get(identity)
  if (known !== undefined) return known
  const { ca, client } = identity
  const fingerprint = hash('sha256', JSON.stringify([ca, client?.certificate, client?.key]))
  fingerprints.set(identity, fingerprint)
  return fingerprint
}

/** Lists the faults of TLS settings. A certificate may come without its key, but not a key without its certificate. */
export function tlsFaults({ ca, client_certificate: certificate, client_key: key }: GivenTls): TlsFault[] {
  const faults: TlsFault[] = []
  const given = certificate === undefined ? null : readCertificates(certificate)
  const read = ca === undefined ? null : readCertificates(ca)
  if (read?.ok === false) faults.push({ member: 'ca', detail: read.detail })
  if (given?.ok === false) faults.push({ member: 'client_certificate', detail: given.detail })
  const chain = given?.ok === true ? given.certificates : null
  const keyDetail = key === undefined ? null : keyFault(key, chain)
  if (keyDetail !== null) faults.push({ member: 'client_key', detail: keyDetail })
  if (faults.length > 0 || certificate === undefined || key === undefined) return faults
  try {
    const client = { certificate: strictCertificates(certificate), key: strictKey(key) }
    secureContextOf({ ca: null, client }, { ca: null })
  } catch (error) {
    return [{ member: 'client_certificate', detail: unusable(error) }]
  }
  return []
}

/** The certificates of a valid setting in the standard form of PEM, without the text around them. */
export function strictCertificates(pem: string): string {
  const read = readCertificatePem(pem)
  return read.ok ? read.certificates.join('') : pem
}

/** The key of a valid setting in the standard form of PEM. */
export function strictKey(pem: string): string {
  const read = readPrivateKeyPem(pem)
  return read.ok ? read.key : pem
}

type Certificates =
  | { readonly ok: true; readonly certificates: readonly X509Certificate[] }
  | { readonly ok: false; readonly detail: string }

function readCertificates(pem: string): Certificates {
  const read = readCertificatePem(pem)
  if (!read.ok) return read
  const certificates: X509Certificate[] = []
  for (const [index, certificate] of read.certificates.entries()) {
    try {
      certificates.push(new X509Certificate(certificate))
    } catch {
      const which = read.certificates.length === 1 ? '' : ` number ${index + 1}`
      return { ok: false, detail: `must be certificates in PEM: the certificate${which} is damaged` }
    }
  }
  return { ok: true, certificates }
}

function keyFault(pem: string, chain: readonly X509Certificate[] | null): string | null {
  const read = readPrivateKeyPem(pem)
  if (!read.ok) return read.detail
  try {
    const key = createPrivateKey(read.key)
    const [own] = chain ?? []
    if (own === undefined) return 'must come with the client_certificate that it belongs to'
    return own.checkPrivateKey(key) ? null : 'is not the key of the first certificate in client_certificate'
  } catch {
    // OpenSSL's message may reveal part of the key.
    return 'must be a private key in PEM: its content is damaged'
  }
}
