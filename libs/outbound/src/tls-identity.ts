import { createPrivateKey, hash, X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContext } from 'node:tls'

/** Whom an RP is believed by, and what it is shown, where that is its own affair. All in PEM. */
export interface TlsIdentity {
  /** Certificates that alone vouch for the RP. Null: the ones that vouch for everybody. */
  readonly ca: string | null
  /** What the RP is shown when it asks who calls (mTLS): a chain, ours first, and the private key of the first. */
  readonly client: { readonly certificate: string; readonly key: string } | null
}

/** The members of TLS settings as an RP's owner gives them, and what is wrong with one, in words without any secret. */
export interface TlsFault {
  readonly member: 'ca' | 'client_certificate' | 'client_key'
  readonly detail: string
}

/** TLS settings to be looked at; what is undefined was not given. All in PEM. */
export interface GivenTls {
  readonly ca?: string | undefined
  readonly client_certificate?: string | undefined
  readonly client_key?: string | undefined
}

/** At least TLS 1.2 (RFC 9325 3.1.1). @throws what node:tls does for certificates or keys that cannot be used. */
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

/** The same for identities with the same content, and for no others. */
export function fingerprintOf(identity: TlsIdentity): string {
  const known = fingerprints.get(identity)
  if (known !== undefined) return known
  const { ca, client } = identity
  const fingerprint = hash('sha256', JSON.stringify([ca, client?.certificate, client?.key]))
  fingerprints.set(identity, fingerprint)
  return fingerprint
}

/** What is wrong with TLS settings, each with the member to change. A certificate may be given without its key, not the key without it. */
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

/** Null where there is none, or anything else beside: a private key pasted along must not end up among what is public. */
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
    // What OpenSSL says of it may say something of the key.
    return 'must be a private key in PEM'
  }
}
