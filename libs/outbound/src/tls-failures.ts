// Words for TLS failures. The texts of Node.js and OpenSSL name source files and options that mean nothing to the owner of a
// relying party. Every text here is the rest of a sentence that begins with the host, and ends with the remedy.

type Words = string | ((error: Error) => string)

const TRUST = 'register that CA as curfew.tls.ca of the relying party, or list it in NODE_EXTRA_CA_CERTS'
const UNKNOWN_CA = `has a certificate that does not lead to a trusted CA: have it send its intermediate certificates, or ${TRUST}`
const EXPIRED = 'has a certificate that has expired, or one in its chain has: renew it'
const WRONG_USE =
  'has a certificate that is not for TLS servers, or was issued by a certificate that is no CA: replace it'
const DAMAGED = 'has a certificate chain that is damaged or forged: install the certificates again'
const TOO_WEAK =
  'has a certificate, or one in its chain, with a key or a hash that is too weak: replace it with RSA of 2048 bits or ECDSA, signed with SHA-256'
const NO_TLS = 'does not answer in TLS at this port: register the port that speaks https'
const OLD = 'does not speak TLS 1.2 or newer: update its TLS settings'
const CURVES =
  'uses a curve or a signature that Curfew does not support: offer ECDSA P-256 or RSA of 2048 bits'

/** Codes of a certificate that does not verify (Node.js), and of a handshake that fails (OpenSSL). */
const WORDS: Readonly<Record<string, Words>> = {
  UNABLE_TO_GET_ISSUER_CERT: UNKNOWN_CA,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_CA,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_CA,
  CERT_UNTRUSTED: UNKNOWN_CA,
  SELF_SIGNED_CERT_IN_CHAIN: `has a certificate of a private CA: ${TRUST}`,
  DEPTH_ZERO_SELF_SIGNED_CERT:
    'has a self-signed certificate: register it as curfew.tls.ca of the relying party, or install one of a known CA',
  CERT_HAS_EXPIRED: EXPIRED,
  CERT_NOT_YET_VALID:
    'has a certificate that is not valid yet, or one in its chain is not: correct its dates, or the clock of this machine',
  ERR_TLS_CERT_ALTNAME_INVALID: otherName,
  HOSTNAME_MISMATCH: otherName,
  INVALID_PURPOSE: WRONG_USE,
  INVALID_CA: WRONG_USE,
  PATH_LENGTH_EXCEEDED: WRONG_USE,
  CERT_CHAIN_TOO_LONG: 'has a certificate chain that is too long: have it send only the certificates needed',
  CERT_SIGNATURE_FAILURE: DAMAGED,
  UNABLE_TO_DECRYPT_CERT_SIGNATURE: DAMAGED,
  UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY: DAMAGED,
  ERROR_IN_CERT_NOT_BEFORE_FIELD: DAMAGED,
  ERROR_IN_CERT_NOT_AFTER_FIELD: DAMAGED,
  CERT_REVOKED: 'has a certificate that was revoked: replace it',
  CERT_REJECTED: 'has a certificate that its own settings reject for TLS: replace it',
  ERR_SSL_WRONG_VERSION_NUMBER: NO_TLS,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: NO_TLS,
  ERR_SSL_HTTP_REQUEST: NO_TLS,
  ERR_SSL_UNKNOWN_PROTOCOL: NO_TLS,
  ERR_SSL_BAD_RECORD_TYPE: NO_TLS,
  ERR_SSL_RECORD_LAYER_FAILURE: NO_TLS,
  ERR_SSL_UNSUPPORTED_PROTOCOL: OLD,
  ERR_SSL_VERSION_TOO_LOW: OLD,
  ERR_SSL_EE_KEY_TOO_SMALL: TOO_WEAK,
  ERR_SSL_CA_KEY_TOO_SMALL: TOO_WEAK,
  ERR_SSL_CA_MD_TOO_WEAK: TOO_WEAK,
  ERR_SSL_DH_KEY_TOO_SMALL: 'uses Diffie-Hellman parameters that are too short: offer ECDHE, or 2048 bits',
  ERR_SSL_UNSAFE_LEGACY_RENEGOTIATION_DISABLED:
    'needs the insecure renegotiation of old TLS (RFC 5746): update its TLS library',
  ERR_SSL_BAD_ECPOINT: CURVES,
  ERR_SSL_WRONG_CURVE: CURVES,
  ERR_SSL_UNSUPPORTED_ELLIPTIC_CURVE: CURVES,
  ERR_SSL_WRONG_SIGNATURE_TYPE: CURVES,
  ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM: CURVES,
  ERR_SSL_UNEXPECTED_EOF_WHILE_READING:
    'closed the connection during TLS: find the reason in its log, or register a client certificate if it requires one',
}

const CLIENT_CERTIFICATE =
  'correct curfew.tls.client_certificate of the relying party, or have the server trust the CA that issued it'

/** The alerts that a server may send, by their names in OpenSSL (RFC 8446 section 6.2). */
const ALERTS: Readonly<Record<string, string>> = {
  PROTOCOL_VERSION: OLD,
  HANDSHAKE_FAILURE:
    'refused the TLS handshake: it has no cipher or curve in common with Curfew, or requires a client certificate (curfew.tls.client_certificate)',
  INSUFFICIENT_SECURITY: 'wants stronger ciphers than Curfew offers: allow those of TLS 1.2 or 1.3 there',
  CERTIFICATE_REQUIRED:
    'requires a client certificate: register curfew.tls.client_certificate and client_key of the relying party',
  BAD_CERTIFICATE: `refused the client certificate, or the lack of one: ${CLIENT_CERTIFICATE}`,
  UNSUPPORTED_CERTIFICATE: `does not support the client certificate: ${CLIENT_CERTIFICATE}`,
  CERTIFICATE_REVOKED: `says that the client certificate was revoked: ${CLIENT_CERTIFICATE}`,
  CERTIFICATE_EXPIRED: `says that the client certificate has expired: ${CLIENT_CERTIFICATE}`,
  CERTIFICATE_UNKNOWN: `refused the client certificate: ${CLIENT_CERTIFICATE}`,
  UNKNOWN_CA: `does not know the CA of the client certificate: ${CLIENT_CERTIFICATE}`,
  ACCESS_DENIED: `denied access to the client certificate: ${CLIENT_CERTIFICATE}`,
  UNRECOGNIZED_NAME: 'serves no site of this name: correct the host in the address, or its TLS settings',
  NO_APPLICATION_PROTOCOL: 'does not offer HTTP/1.1 over TLS: allow it there',
  INTERNAL_ERROR: 'had an internal error during the TLS handshake: find the reason in its log',
}

/** Node.js reports a certificate fault that it has no code for as UNSPECIFIED. */
const CODE =
  /^(?:ERR_TLS_|ERR_SSL_|ERR_OSSL_|CERT_|CRL_|ERROR_IN_C|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_|HOSTNAME_MISMATCH|UNSPECIFIED|EPROTO)/

/** Explains an error with a code of TLS, without the words of a library. @returns null if the error is not about TLS. */
export function tlsFailure(error: Error, code: string, { host, protocol }: URL): string | null {
  // After a handshake of TLS 1.3, a server that refuses our certificate may just close.
  if (code === 'UND_ERR_SOCKET' && protocol === 'https:' && error.message === 'other side closed')
    return `${host} closed the TLS connection without an answer: find the reason in its log, or register a client certificate (curfew.tls.client_certificate) if it requires one`
  if (code === 'ECONNRESET' && /before secure TLS connection/.test(error.message))
    return `${host} ${wordsOf('ERR_SSL_UNEXPECTED_EOF_WHILE_READING', error)}`
  return CODE.test(code) ? `${host} ${wordsOf(code, error)}` : null
}

function wordsOf(code: string, error: Error): string {
  const [, alert] = /_ALERT_(\w+)$/.exec(code) ?? []
  if (alert !== undefined) {
    const name = alert.toLowerCase().replaceAll('_', ' ')
    return ALERTS[alert] ?? `ended TLS with the alert ${name}: find the reason in its log`
  }
  if (code === 'UNSPECIFIED' && /too weak|too small/.test(error.message)) return TOO_WEAK
  const words = Object.hasOwn(WORDS, code) ? WORDS[code] : undefined
  if (typeof words === 'function') return words(error)
  if (words !== undefined) return words
  return code.startsWith('ERR_SSL_') || code.startsWith('ERR_OSSL_') || code === 'EPROTO'
    ? `failed in the TLS handshake (${code}): check it with openssl s_client -connect HOST:PORT`
    : `has a certificate that does not verify (${code}): check it with openssl s_client -connect HOST:PORT`
}

/** The longest list of names that a text repeats, in characters. */
const NAMES_MAX = 120

function otherName(error: Error): string {
  const { subjectaltname } = Object('cert' in error ? error.cert : null) as { subjectaltname?: unknown }
  const names = typeof subjectaltname === 'string' ? subjectaltname.replaceAll(/[^\x20-\x7e]/g, '?') : ''
  const shown = names.length > NAMES_MAX ? `${names.slice(0, NAMES_MAX)}…` : names
  const has = shown === '' ? 'no name' : shown
  return `has a certificate for another host (${has}): install one with its name in subjectAltName, or register the address with a name that it has`
}

/** Explains why OpenSSL does not take a CA, a certificate or a key of ours, as the predicate of a sentence. */
export function unusable(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (/TOO_SMALL|TOO_WEAK/.test(code))
    return 'must have a stronger key: RSA of 2048 bits or ECDSA, signed with SHA-256'
  if (/MISMATCH/.test(code)) return 'must be the certificate of client_key'
  return 'must be a certificate and a key that OpenSSL can use for TLS'
}
