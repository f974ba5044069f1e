import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'

/** Encrypts the cursors of lists: a caller can neither read a cursor nor use it for another list. */
export interface CursorSealer {
  /** @param scope names the list and the caller's access. */
  seal(text: string, scope: string): string
  /** @returns null if the cursor has another scope, was changed, or another master key sealed it. */
  open(cursor: string, scope: string): string | null
}

const CIPHER = 'aes-256-gcm'
const SALT_BYTES = 16
const TAG_BYTES = 16
const KEY_BYTES = 32
const IV_BYTES = 12
/** The text is padded to a multiple of this, because its exact length would reveal something about a name in it. */
const BLOCK_BYTES = 128

/**
 * Derives a key and a nonce per cursor from the master key and a random salt (HKDF, RFC 5869). Every process with the master key
 * can open the cursor, and the number of cursors is not limited by AES-GCM's nonce.
 *
 * @param oldMasterKey opens cursors, but seals none, during a rotation of the master key.
 */
export function createCursorSealer(
  masterKey: Uint8Array,
  oldMasterKey: Uint8Array | null = null,
): CursorSealer {
  const masterKeys = [masterKey, ...(oldMasterKey === null ? [] : [oldMasterKey])]
  return {
    seal(text, scope) {
      const salt = randomBytes(SALT_BYTES)
      const { key, iv } = derive(masterKey, salt)
      const cipher = createCipheriv(CIPHER, key, iv).setAAD(Buffer.from(scope))
      const sealed = Buffer.concat([cipher.update(pad(text)), cipher.final()])
      return Buffer.concat([salt, sealed, cipher.getAuthTag()]).toString('base64url')
    },
    open(cursor, scope) {
      const bytes = Buffer.from(cursor, 'base64url')
      // Buffer skips characters that are not base64url, so the round trip detects them.
      if (bytes.toString('base64url') !== cursor || bytes.length < SALT_BYTES + TAG_BYTES) return null
      for (const candidate of masterKeys) {
        const { key, iv } = derive(candidate, bytes.subarray(0, SALT_BYTES))
        const decipher = createDecipheriv(CIPHER, key, iv, { authTagLength: TAG_BYTES })
          .setAAD(Buffer.from(scope))
          .setAuthTag(bytes.subarray(-TAG_BYTES))
        const padded = decipher.update(bytes.subarray(SALT_BYTES, -TAG_BYTES))
        try {
          return unpad(Buffer.concat([padded, decipher.final()]))
        } catch {
          // Another master key sealed it, or it was changed.
        }
      }
      return null
    },
  }
}

function derive(masterKey: Uint8Array, salt: Uint8Array) {
  const bytes = Buffer.from(hkdfSync('sha256', masterKey, salt, 'curfew cursor', KEY_BYTES + IV_BYTES))
  return { key: bytes.subarray(0, KEY_BYTES), iv: bytes.subarray(KEY_BYTES) }
}

/** Writes the length in four bytes, then the text, then zeros. */
function pad(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8')
  const padded = Buffer.alloc(Math.ceil((bytes.length + 4) / BLOCK_BYTES) * BLOCK_BYTES)
  padded.writeUInt32BE(bytes.length)
  bytes.copy(padded, 4)
  return padded
}

function unpad(padded: Buffer): string {
  return padded.subarray(4, 4 + padded.readUInt32BE()).toString('utf8')
}
