import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hashApiKey } from '@curfew/runtime'

/**
 * The secrets of standalone. Secrets that the environment does not give are generated, and stored in the data folder for its
 * owner only.
 */
export interface Secrets {
  /** 32 bytes. */
  readonly masterKey: Uint8Array
  readonly adminKeyHash: Uint8Array
  /** The admin key that this start generated; null if one was given or stored before. Hand it over before storing its hash. */
  readonly newAdminKey: string | null
  /**
   * Stores the hash of a new admin key. Without this call the next start generates another key: a key that was never readable
   * must not lock the operator out.
   */
  keepAdminKey(): Promise<void>
  /**
   * Writes a new admin key to a file, for an operator without a terminal. The output of a service is kept in logs, which others read.
   *
   * @returns the path of the file; null if the key is not new.
   */
  handOverAdminKey(): Promise<string | null>
}

export interface GivenSecrets {
  readonly dataDir: string
  readonly masterKey: Uint8Array | null
  readonly adminKey: string | null
}

/** Opens the secrets. The caller must own the data folder exclusively: two processes would generate different secrets. */
export async function openSecrets({ dataDir, masterKey, adminKey }: GivenSecrets): Promise<Secrets> {
  await mkdir(dataDir, { recursive: true })
  const path = join(dataDir, 'admin-key.sha256')
  const kept = adminKey === null ? await readIfThere(path) : null
  const made = adminKey === null && kept === null ? newApiKey() : null
  const key = adminKey ?? made
  const adminKeyHash = key === null ? Buffer.from((kept ?? '').trim(), 'hex') : hashApiKey(key)
  return {
    masterKey: masterKey ?? (await openMasterKey(dataDir)),
    adminKeyHash,
    newAdminKey: made,
    async keepAdminKey() {
      if (made !== null) await keep(path, Buffer.from(adminKeyHash).toString('hex'))
    },
    async handOverAdminKey() {
      if (made === null) return null
      const file = join(dataDir, 'admin-key')
      await keep(file, made)
      return file
    },
  }
}

/** Generates an API key: 256 random bits behind a prefix that secret scanners can find. */
export function newApiKey(): string {
  return `cfw_${randomBytes(32).toString('base64url')}`
}

async function openMasterKey(dataDir: string): Promise<Uint8Array> {
  const path = join(dataDir, 'master-key')
  const kept = await readIfThere(path)
  if (kept !== null) return Buffer.from(kept.trim(), 'base64url')
  const made = randomBytes(32)
  await keep(path, made.toString('base64url'))
  return made
}

/** Writes a file atomically, readable by its owner only. */
async function keep(path: string, text: string): Promise<void> {
  const draft = `${path}.new`
  await writeFile(draft, `${text}\n`, { mode: 0o600 })
  await chmod(draft, 0o600)
  await rename(draft, path)
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}
