import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'

/** Seals the cursors of lists, so that a caller reads nothing in them and cannot use one elsewhere. */
export interface CursorSealer {
  /** @param scope the list, and what its caller may see. */
  seal(text: string, scope: string): string
  /** @returns null where the cursor was not sealed so: of another scope, changed, or under another master key. */
  open(cursor: string, scope: string): string | null
}

const CIPHER = 'aes-256-gcm'
const SALT_BYTES = 16
const TAG_BYTES = 16
const KEY_BYTES = 32
const IV_BYTES = 12
/** The text is padded to a multiple of it: its length would tell something of a name in it. */
const BLOCK_BYTES = 128

/**
 * Each cursor lies under a key and a nonce of its own, derived from the master key and a random salt (HKDF, RFC 5869): so every
 * process that has the master key opens it, and no number of cursors wears a key out.
 *
 * @param oldMasterKey opens too, while one master key replaces another.
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
      // Buffer skips what is no base64url.
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
          // It lies under the other master key, or under none of ours.
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

/** The length in four bytes, the text, and zeros. */
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
