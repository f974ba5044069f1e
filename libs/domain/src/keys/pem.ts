/** One textual encoding: its label, and its base64 text without white space. */
export interface PemBlock {
  /** Such as `CERTIFICATE`, `PRIVATE KEY` (PKCS#8), `RSA PRIVATE KEY` (PKCS#1) or `EC PRIVATE KEY` (SEC1). */
  readonly label: string
  readonly base64: string
  /** Whether the block has the headers of an encrypted key (RFC 1421 section 4.6.1.1), which RFC 7468 does not allow. */
  readonly encrypted: boolean
}

/** The text of a PEM file. `outside` is the text around the blocks, such as explanations, without its white space. */
export interface Pem {
  readonly blocks: readonly PemBlock[]
  readonly outside: string
}

const BEGIN = '-----BEGIN '
const DASHES = '-----'
/** Printable ASCII without a hyphen at either end (RFC 7468 section 3, `label`). */
const LABEL = /^(?:[!-,.-~](?:[- ]?[!-,.-~])*)?$/
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/
const LEGACY_HEADER = /^[ \t]*[A-Za-z-]+:/

/**
 * Reads textual encodings by the lax rules of RFC 7468 section 3: any line length, any line ending, white space anywhere, and text
 * around the blocks. A block that is not closed, or whose text is not base64, counts as text outside.
 */
export function readPem(text: string): Pem {
  const blocks: PemBlock[] = []
  const outside: string[] = []
  let outsideAt = 0
  let begin = text.indexOf(BEGIN)
  while (begin !== -1) {
    const found = blockAt(text, begin)
    if (found !== null) {
      blocks.push(found.block)
      outside.push(text.slice(outsideAt, begin))
      outsideAt = found.end
    }
    begin = text.indexOf(BEGIN, found?.end ?? begin + BEGIN.length)
  }
  outside.push(text.slice(outsideAt))
  // String.prototype.trim removes a byte order mark as well.
  const parts = outside.map((part) => part.trim()).filter((part) => part !== '')
  return { blocks, outside: parts.join('\n') }
}

/** The standard form of a block (RFC 7468 section 3, `stricttextualmsg`), which every TLS library reads. */
export function writePem({ label, base64 }: Pick<PemBlock, 'label' | 'base64'>): string {
  const lines = base64.match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

/** Certificates in PEM, each in the standard form, or the fault of the text as the predicate of a sentence. */
export type CertificatesRead =
  | { readonly ok: true; readonly certificates: readonly string[] }
  | { readonly ok: false; readonly detail: string }

/** The label of the standard, and two labels that older programs write (RFC 7468 section 5.1). */
const CERTIFICATE_LABELS = ['CERTIFICATE', 'X509 CERTIFICATE', 'X.509 CERTIFICATE']

/**
 * Reads a text with certificates, such as the output of `openssl s_client -showcerts`, and drops the text around them. It does
 * not decode the certificates. Any other block is a fault: a private key that was pasted beside a CA must not enter public data.
 */
export function readCertificatePem(text: string): CertificatesRead {
  const { blocks, outside } = readPem(text)
  const other = blocks.find(({ label }) => !CERTIFICATE_LABELS.includes(label))
  const fault = (detail: string) => ({ ok: false, detail }) as const
  if (other !== undefined)
    return fault(`must be certificates in PEM and no other block: remove the ${other.label}`)
  if (outside.includes(BEGIN))
    return fault('must be certificates in PEM: one block is cut off, or is not base64')
  if (blocks.length === 0) return fault('must be one or more certificates in PEM')
  return {
    ok: true,
    certificates: blocks.map(({ base64 }) => writePem({ label: 'CERTIFICATE', base64 })),
  }
}

/** One private key in PEM, in the standard form, or the fault of the text as the predicate of a sentence. */
export type PrivateKeyRead =
  | { readonly ok: true; readonly key: string }
  | { readonly ok: false; readonly detail: string }

/**
 * Reads a text with one unencrypted private key: PKCS#8, PKCS#1 or SEC1. Other blocks, such as the certificates of a combined
 * file or `EC PARAMETERS`, are ignored. It does not decode the key, and the fault never quotes the text.
 */
export function readPrivateKeyPem(text: string): PrivateKeyRead {
  const { blocks, outside } = readPem(text)
  const [key, ...others] = blocks.filter(({ label }) => label.endsWith('PRIVATE KEY'))
  const fault = (detail: string) => ({ ok: false, detail }) as const
  if (key === undefined)
    return fault(
      outside.includes(BEGIN)
        ? 'must be a private key in PEM: its block is cut off, or is not base64'
        : 'must be a private key in PEM',
    )
  if (others.length > 0) return fault('must be one private key in PEM: it has several')
  if (key.encrypted)
    return fault('must not be encrypted: decrypt it with `openssl pkey -in FILE -out DECRYPTED`')
  if (key.label === 'OPENSSH PRIVATE KEY')
    return fault('must be PKCS#8, PKCS#1 or SEC1: convert it with `ssh-keygen -p -m PKCS8 -f FILE`')
  return { ok: true, key: writePem(key) }
}

function blockAt(text: string, begin: number): { readonly block: PemBlock; readonly end: number } | null {
  const labelAt = begin + BEGIN.length
  const labelEnd = text.indexOf(DASHES, labelAt)
  if (labelEnd === -1) return null
  const label = text.slice(labelAt, labelEnd)
  if (!LABEL.test(label)) return null
  const closing = `-----END ${label}-----`
  const bodyAt = labelEnd + DASHES.length
  // A block ends before the next one begins. The limit keeps the time linear in the length of the text.
  const next = text.indexOf(BEGIN, bodyAt)
  const rest = text.slice(bodyAt, next === -1 ? undefined : next)
  const bodyLength = rest.indexOf(closing)
  if (bodyLength === -1) return null
  const body = rest.slice(0, bodyLength)
  const base64 = withoutHeaders(body).replace(/\s+/g, '')
  if (!BASE64.test(base64)) return null
  const encrypted = label.startsWith('ENCRYPTED ') || /\bENCRYPTED\b/.test(body)
  return { block: { label, base64, encrypted }, end: bodyAt + bodyLength + closing.length }
}

/** Removes the headers of an encrypted key. A line that begins with white space continues the header before it. */
function withoutHeaders(body: string): string {
  let inHeader = false
  const lines = body.split(/\r\n|\r|\n/).filter((line) => {
    inHeader = LEGACY_HEADER.test(line) || (inHeader && /^[ \t]/.test(line))
    return !inHeader
  })
  return lines.join('\n')
}
