import { createHash, createPublicKey, verify } from 'node:crypto'
import {
  type Checkpoint,
  leafHash,
  type PemBlock,
  parseCheckpointText,
  parseNote,
  RECEIPT_TYPE,
  type ReceiptClaims,
  readPem,
  verifyConsistency,
  verifyInclusion,
  writePem,
} from '@curfew/domain'
import { calculateJwkThumbprint, compactVerify } from 'jose'
import { noteKeyId, rawPublicKey, sha256 } from './log-keys.ts'

// An auditor's checks of a receipt. They work offline: nothing here uses the network.

/** A public key of a log that the auditor trusts. */
export interface TrustedLogKey {
  /** The RFC 7638 thumbprint, which identifies the key. */
  readonly kid: string
  readonly jwk: { readonly kty: 'OKP'; readonly crv: 'Ed25519'; readonly x: string }
  /** The log that the key belongs to. Null if the key's text did not name it. */
  readonly origin: string | null
}

const ED25519_TYPE = 1
const VKEY = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/

/** Reads a verifier key of C2SP signed-note, a JWK, the first key of a JWK Set, or a public key in PEM. @returns null for others. */
export async function readLogKey(text: string): Promise<TrustedLogKey | null> {
  const [, name, id, encoded] = VKEY.exec(text.trim()) ?? []
  if (name !== undefined && encoded !== undefined) {
    const bytes = decoded(encoded, 'base64')
    const publicKey = bytes?.subarray(1)
    const ours = bytes?.length === 33 && bytes[0] === ED25519_TYPE
    if (publicKey === undefined || !ours || noteKeyId(name, publicKey).toString('hex') !== id) return null
    return keyOf(publicKey, name)
  }
  try {
    const [pem] = readPem(text).blocks
    const parsed = Object(pem === undefined ? JSON.parse(text.trim()) : publicJwkOf(pem)) as Record<
      string,
      unknown
    >
    const [jwk] = Array.isArray(parsed.keys) ? parsed.keys : [parsed]
    const { kty, crv } = Object(jwk) as Record<string, unknown>
    if (kty !== 'OKP' || crv !== 'Ed25519') return null
    return await keyOf(rawPublicKey(jwk), typeof parsed.origin === 'string' ? parsed.origin : null)
  } catch {
    return null
  }
}

/** @throws the error of node:crypto if the block is not a public key. */
function publicJwkOf(pem: PemBlock): object {
  if (pem.label !== 'PUBLIC KEY') throw new Error('the block is not a public key')
  return createPublicKey(writePem(pem)).export({ format: 'jwk' })
}

async function keyOf(publicKey: Uint8Array, origin: string | null): Promise<TrustedLogKey> {
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(publicKey).toString('base64url') } as const
  return { kid: await calculateJwkThumbprint(jwk), jwk, origin }
}

/**
 * Verifies a receipt with the key of the log. Each part must be the canonical base64url of RFC 7515 section 2, so that a receipt
 * has exactly one encoding.
 *
 * @returns null if the signature, the type or the encoding is wrong.
 */
export async function verifyReceipt(
  jws: string,
  { jwk }: TrustedLogKey,
): Promise<{ readonly payload: Uint8Array; readonly claims: ReceiptClaims } | null> {
  if (jws.split('.').some((part) => decoded(part, 'base64url') === null)) return null
  try {
    const key = createPublicKey({ key: { ...jwk }, format: 'jwk' })
    const { payload, protectedHeader } = await compactVerify(jws, key, { algorithms: ['EdDSA', 'Ed25519'] })
    if (protectedHeader.typ !== RECEIPT_TYPE) return null
    const claims: unknown = JSON.parse(new TextDecoder().decode(payload))
    return isReceipt(claims) ? { payload, claims } : null
  } catch {
    return null
  }
}

/** Whether the claims have the members of a receipt. Their contents are not checked: the log's signature vouches for them. */
function isReceipt(claims: unknown): claims is ReceiptClaims {
  const { event, targets, log } = Object(claims) as { readonly [Name in keyof ReceiptClaims]?: unknown }
  return Object(event) === event && Object(log) === log && Array.isArray(targets)
}

/**
 * Verifies a checkpoint with the key of its log, and ignores other signatures.
 *
 * @returns null if the log's signature is missing or wrong.
 */
export function verifyCheckpoint(note: string, { jwk, origin }: TrustedLogKey): Checkpoint | null {
  const parsed = parseNote(note)
  const checkpoint = parsed && parseCheckpointText(parsed.text)
  if (parsed === null || checkpoint === null || (origin ?? checkpoint.origin) !== checkpoint.origin)
    return null
  const key = createPublicKey({ key: { ...jwk }, format: 'jwk' })
  const id = noteKeyId(checkpoint.origin, rawPublicKey(jwk))
  const own = parsed.signatures
    .filter(({ name }) => name === checkpoint.origin)
    .filter(({ signature }) => Buffer.from(signature, 'base64').subarray(0, 4).equals(id))
    .map(({ signature }) => decoded(signature, 'base64'))
  const good = own.every(
    (signature) => signature !== null && verify(null, Buffer.from(parsed.text), key, signature.subarray(4)),
  )
  return own.length > 0 && good ? checkpoint : null
}

/** Whether a receipt is the leaf at `index` of the log that the checkpoint describes. Hashes are in base64. */
export function isIncluded(
  payload: Uint8Array,
  { size, root }: Checkpoint,
  { index, proof }: { index: number; proof: readonly string[] },
): boolean {
  const digest = createHash('sha256').update(payload).digest()
  return verifyInclusion(
    { index, size, hash: leafHash(digest, sha256), proof: proof.map(hashIn), root: hashIn(root) },
    sha256,
  )
}

/** Whether `newer` extends the log of `older`. Hashes are in base64. */
export function isConsistent(older: Checkpoint, newer: Checkpoint, proof: readonly string[]): boolean {
  const [from, to] = [older.size, newer.size]
  if (older.origin !== newer.origin) return false
  if (from === to) return older.root === newer.root
  const roots = { fromRoot: hashIn(older.root), toRoot: hashIn(newer.root) }
  return verifyConsistency({ from, to, ...roots, proof: proof.map(hashIn) }, sha256)
}

/** Decodes a hash. An invalid text yields no bytes, which equal no hash. */
function hashIn(base64: string): Uint8Array {
  return new Uint8Array(decoded(base64, 'base64') ?? [])
}

/** Decodes canonical base64. @returns null if padding, alphabet or unused bits differ (RFC 4648 sections 3.2, 3.3 and 3.5). */
function decoded(text: string, encoding: 'base64' | 'base64url'): Buffer | null {
  const bytes = Buffer.from(text, encoding)
  return bytes.toString(encoding) === text ? bytes : null
}
