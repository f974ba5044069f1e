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

/** The keys of the receipt log as they are stored, with their secret parts sealed. */
export interface SealedLogKeys {
  /** RFC 7638 thumbprint. */
  readonly kid: string
  readonly publicJwk: Readonly<Record<string, unknown>>
  /** The private signing key: a compact JWE under the master key. */
  readonly sealedPrivateKey: string
  /** The key that hashes subjects: a compact JWE under the master key. */
  readonly sealedSubjectKey: string
}

/** The name and the keys of a new log. */
export interface NewLog extends SealedLogKeys {
  readonly origin: string
}

/** Signs with the log's key. A text gets the same signature each time (RFC 8032). */
export interface LogSigner {
  /** The public key in the format of C2SP signed-note. */
  readonly vkey: string
  /** @param payload the JSON of the claims, which is signed byte for byte. @returns a compact JWS (RFC 7515) with EdDSA. */
  signReceipt(payload: string): string
  /** @returns a signed checkpoint in the format of C2SP tlog-checkpoint. */
  signCheckpoint(checkpoint: Checkpoint): string
}

/** Hashes values that name people, with a key per event. A disclosed key reveals nothing about other events. */
export interface SubjectHash {
  /** The key of one event, in base64url. With it, an auditor can check whether the event's receipt is about a given subject. */
  keyOf(eventId: string): string
  /** HMAC-SHA256 with the key of the event, in base64url. */
  of(eventId: string): (value: string) => string
  /** A tag that finds all entries of one subject or one session: 16 bytes in hexadecimal, hashed with a key for tags. */
  tag(value: string): string
}

/** Makes the keys of a log, and opens them. It caches the opened keys. */
export interface LogKeeper {
  /** @param origin the name of the log. Null: a unique name is made. */
  newLog(origin: string | null): Promise<NewLog>
  /** @throws {LogKeyError} if no master key opens the key, or it was changed. */
  signer(log: NewLog): Promise<LogSigner>
  /** @throws {LogKeyError} as `signer` does. */
  subjectHash(log: SealedLogKeys): Promise<SubjectHash>
}

const PRIVATE_KEY_TYPE = 'curfew-log-key'
const SUBJECT_KEY_TYPE = 'curfew-subject-key'
/** The signature type of Ed25519 in C2SP signed-note. */
const ED25519 = 1
/** A domain that does not exist on the Internet (`.internal` is reserved for private use). */
const OWN_NAMES = 'curfew.internal'

/**
 * @param masterKey 32 bytes.
 * @param oldMasterKey 32 bytes. It opens keys, but seals none, during a rotation of the master key.
 * @throws {LogKeyError} if a master key is not 32 bytes long.
 */
export function createLogKeeper(masterKey: Uint8Array, oldMasterKey: Uint8Array | null = null): LogKeeper {
  const sealer = createSealer({ current: masterKey, old: oldMasterKey }, LogKeyError, 'another key')

  async function openSigner({ kid, publicJwk, sealedPrivateKey, origin }: NewLog): Promise<LogSigner> {
    const name = `key ${kid} of the receipt log`
    const jwk: unknown = JSON.parse(await sealer.open(sealedPrivateKey, { typ: PRIVATE_KEY_TYPE, kid }, name))
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
    const name = `the subject-hash key of the receipt log with key ${kid}`
    const secret = await sealer.open(sealedSubjectKey, { typ: SUBJECT_KEY_TYPE, kid }, name)
    const key = Buffer.from(secret, 'base64url')
    const keyOf = (eventId: string) => createHmac('sha256', key).update(eventId).digest('base64url')
    // Event ids are UUIDs, so no event has this id.
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

/** Creates the hash function of one event from its key. */
export function hashedWith(eventKey: string): (value: string) => string {
  const key = Buffer.from(eventKey, 'base64url')
  return (value) => createHmac('sha256', key).update(value).digest('base64url')
}

/** The key ID that names a key in the signature lines of a C2SP signed-note. */
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

/** SHA-256, for the functions of the Merkle tree. */
export function sha256(data: Uint8Array): Uint8Array {
  return hash('sha256', data, 'buffer')
}

function encoded(text: string): string {
  return Buffer.from(text).toString('base64url')
}

/** Caches the last opened log by its `kid`. A failure is not cached. */
function once<Log extends SealedLogKeys, Opened>(
  open: (log: Log) => Promise<Opened>,
): (log: Log) => Promise<Opened> {
  let last: { readonly kid: string; readonly opened: Opened } | null = null
  return async (log) => {
    if (last?.kid !== log.kid) last = { kid: log.kid, opened: await open(log) }
    return last.opened
  }
}
