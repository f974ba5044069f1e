import { createPrivateKey, hash, X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContext } from 'node:tls'

/** An RP's own TLS settings: the CAs that it is trusted by, and the client certificate that we show to it. All in PEM. */
export interface TlsIdentity {
  /** The only CAs that are trusted for the RP. Null: the default CAs. */
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
  const chain = certificate === undefined ? null : readCertificates(certificate)
  if (ca !== undefined && readCertificates(ca) === null)
    faults.push({ member: 'ca', detail: NO_CERTIFICATES })
  if (certificate !== undefined && chain === null) {
    faults.push({ member: 'client_certificate', detail: NO_CERTIFICATES })
  }
  const keyDetail = key === undefined ? null : keyFault(key, chain)
  if (keyDetail !== null) faults.push({ member: 'client_key', detail: keyDetail })
  if (faults.length > 0 || certificate === undefined || key === undefined) return faults
  try {
    secureContextOf({ ca: null, client: { certificate, key } }, { ca: null })
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return [{ member: 'client_certificate', detail: `cannot be used for TLS: ${why}` }]
  }
  return []
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g
const NO_CERTIFICATES = 'must be one or more certificates in PEM, and nothing else'

/** Null if there is no certificate, or any other text. A private key pasted beside it must not enter public data. */
function readCertificates(pem: string): readonly X509Certificate[] | null {
  if (pem.replaceAll(CERTIFICATE, '').trim() !== '') return null
  try {
    const certificates = (pem.match(CERTIFICATE) ?? []).map((block) => new X509Certificate(block))
    return certificates.length === 0 ? null : certificates
  } catch {
    return null
  }
}

function keyFault(pem: string, chain: readonly X509Certificate[] | null): string | null {
  if (/\bENCRYPTED\b/.test(pem)) return 'must not be encrypted: Curfew encrypts it itself'
  try {
    const key = createPrivateKey(pem)
    const [own] = chain ?? []
    if (own === undefined) return 'must come with the client_certificate that it belongs to'
    return own.checkPrivateKey(key) ? null : 'is not the key of the first certificate in client_certificate'
  } catch {
    // OpenSSL's message may reveal part of the key.
    return 'must be a private key in PEM'
  }
}
