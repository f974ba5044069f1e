import {
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  hash,
  randomBytes,
  sign,
} from 'node:crypto'
import { type Checkpoint, checkpointText, LogKeyError, noteText, RECEIPT_TYPE } from '@curfew/domain'
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose'
import { createSealer } from './sealing.ts'

/** The keys of the log of receipts, as they are stored: what is secret only sealed. */
export interface SealedLogKeys {
  /** RFC 7638 thumbprint. */
  readonly kid: string
  readonly publicJwk: Readonly<Record<string, unknown>>
  /** A compact JWE under the master key, like the other. */
  readonly sealedPrivateKey: string
  readonly sealedSubjectKey: string
}

/** A log that is to be begun. */
export interface NewLog extends SealedLogKeys {
  readonly origin: string
}

/** Signs for the log, in its one key. The same text gets the same signature each time (RFC 8032). */
export interface LogSigner {
  /** The public key as C2SP signed-note writes it. */
  readonly vkey: string
  /** @param payload the claims, to the byte. @returns a compact JWS (RFC 7515), EdDSA. */
  signReceipt(payload: string): string
  /** @returns a checkpoint as C2SP tlog-checkpoint has it. */
  signCheckpoint(checkpoint: Checkpoint): string
}

/** Hashes what names people, in a key of each event's own: what one of them gives away, it gives away of no other. */
export interface SubjectHash {
  /** The key of one event, in base64url: whoever has it can tell whether a receipt of that event is of somebody. */
  keyOf(eventId: string): string
  /** HMAC-SHA256 in that key, in base64url. */
  of(eventId: string): (value: string) => string
  /** By which all that is of one subject, or of one session alone, is found: 16 bytes in hexadecimal, in a key of their own. */
  tag(value: string): string
}

/** Makes the keys of a log, and opens them again; each is opened once. */
export interface LogKeeper {
  /** @param origin null: a name of its own, which nobody else has. */
  newLog(origin: string | null): Promise<NewLog>
  /** @throws {LogKeyError} when no master key of ours opens it, or it was tampered with; so does the other. */
  signer(log: NewLog): Promise<LogSigner>
  subjectHash(log: SealedLogKeys): Promise<SubjectHash>
}

const PRIVATE_KEY_TYPE = 'curfew-log-key'
const SUBJECT_KEY_TYPE = 'curfew-subject-key'
/** C2SP signed-note: an Ed25519 signature. */
const ED25519 = 1
/** Names that are nobody's on the Internet. */
const OWN_NAMES = 'curfew.internal'

/**
 * @param masterKey 32 bytes.
 * @param oldMasterKey 32 bytes: opens too, while one master key replaces another.
 * @throws {LogKeyError} when one is longer or shorter.
 */
export function createLogKeeper(masterKey: Uint8Array, oldMasterKey: Uint8Array | null = null): LogKeeper {
  const sealer = createSealer({ current: masterKey, old: oldMasterKey }, LogKeyError, 'another key')

  async function openSigner({ kid, publicJwk, sealedPrivateKey, origin }: NewLog): Promise<LogSigner> {
    const what = `key ${kid} of the log of receipts`
    const jwk: unknown = JSON.parse(await sealer.open(sealedPrivateKey, { typ: PRIVATE_KEY_TYPE, kid }, what))
    const privateKey = createPrivateKey({ key: jwk as Record<string, unknown>, format: 'jwk' })
    const publicKey = rawPublicKey(publicJwk)
    const keyId = noteKeyId(origin, publicKey)
    const header = encoded(JSON.stringify({ alg: 'EdDSA', kid, typ: RECEIPT_TYPE }))
    return {
      vkey: `${origin}+${keyId.toString('hex')}+${Buffer.from([ED25519, ...publicKey]).toString('base64')}`,
      signReceipt(payload) {
        const input = `${header}.${encoded(payload)}`
        return `${input}.${sign(null, Buffer.from(input), privateKey).toString('base64url')}`
      },
      signCheckpoint(checkpoint) {
        const text = checkpointText(checkpoint)
        const bytes = Buffer.concat([keyId, sign(null, Buffer.from(text), privateKey)])
        return noteText({ text, signatures: [{ name: origin, signature: bytes.toString('base64') }] })
      },
    }
  }

  async function openSubjectHash({ kid, sealedSubjectKey }: SealedLogKeys): Promise<SubjectHash> {
    const what = `the key that hashes subjects, beside key ${kid} of the log of receipts`
    const secret = await sealer.open(sealedSubjectKey, { typ: SUBJECT_KEY_TYPE, kid }, what)
    const key = Buffer.from(secret, 'base64url')
    const keyOf = (eventId: string) => createHmac('sha256', key).update(eventId).digest('base64url')
    // No event has this id.
    const tagKey = keyOf('subjects')
    return {
      keyOf,
      of: (eventId) => hashedWith(keyOf(eventId)),
      tag: (value) => createHmac('sha256', tagKey).update(value).digest('hex').slice(0, 32),
    }
  }

  return {
    async newLog(origin) {
      const pair = await generateKeyPair('EdDSA', { extractable: true })
      const exported = await exportJWK(pair.publicKey)
      const kid = await calculateJwkThumbprint(exported)
      const fingerprint = createHash('sha256').update(rawPublicKey(exported)).digest('hex').slice(0, 16)
      const privateJwk = JSON.stringify(await exportJWK(pair.privateKey))
      return {
        origin: origin ?? `${OWN_NAMES}/${fingerprint}`,
        kid,
        publicJwk: { ...exported, kid, alg: 'EdDSA', use: 'sig' },
        sealedPrivateKey: await sealer.seal(privateJwk, { typ: PRIVATE_KEY_TYPE, kid }),
        sealedSubjectKey: await sealer.seal(randomBytes(32).toString('base64url'), {
          typ: SUBJECT_KEY_TYPE,
          kid,
        }),
      }
    },
    signer: once(openSigner),
    subjectHash: once(openSubjectHash),
  }
}

/** Hashes with the key of one event. */
export function hashedWith(eventKey: string): (value: string) => string {
  const key = Buffer.from(eventKey, 'base64url')
  return (value) => createHmac('sha256', key).update(value).digest('base64url')
}

/** C2SP signed-note: what names a key in signature lines. */
export function noteKeyId(name: string, publicKey: Uint8Array): Buffer {
  return createHash('sha256')
    .update(`${name}\n`)
    .update(Buffer.from([ED25519]))
    .update(publicKey)
    .digest()
    .subarray(0, 4)
}

/** The 32 bytes of an Ed25519 public key (RFC 8032). */
export function rawPublicKey(jwk: Readonly<Record<string, unknown>>): Buffer {
  const { x } = createPublicKey({ key: { ...jwk }, format: 'jwk' }).export({ format: 'jwk' })
  return Buffer.from(x ?? '', 'base64url')
}

/** SHA-256, as the Merkle tree takes it. */
export function sha256(data: Uint8Array): Uint8Array {
  return hash('sha256', data, 'buffer')
}

function encoded(text: string): string {
  return Buffer.from(text).toString('base64url')
}

/** Opens what is asked for once, as long as it is the same. What fails is tried again. */
function once<Log extends SealedLogKeys, Opened>(
  open: (log: Log) => Promise<Opened>,
): (log: Log) => Promise<Opened> {
  let last: { readonly kid: string; readonly opened: Opened } | null = null
  return async (log) => {
    if (last?.kid !== log.kid) last = { kid: log.kid, opened: await open(log) }
    return last.opened
  }
}
