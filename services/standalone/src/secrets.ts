import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hashApiKey } from '@curfew/runtime'

/** What standalone makes for itself where the environment gives none, kept in the data folder for its owner alone. */
export interface Secrets {
  /** 32 bytes. */
  readonly masterKey: Uint8Array
  readonly adminKeyHash: Uint8Array
  /** The admin key itself where there was none yet: to be shown, and then kept. */
  readonly newAdminKey: string | null
  /** Keeps the hash of a new admin key, so that it stays the key. Before that the next start makes another: a key that was never shown locks nobody out. */
  keepAdminKey(): Promise<void>
}

export interface GivenSecrets {
  readonly dataDir: string
  readonly masterKey: Uint8Array | null
  readonly adminKey: string | null
}

/** To be called by whoever has the data folder to itself: two at once would each make their own. */
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
  }
}

/** A new API key: 256 random bits behind a prefix that secret scanners can look for. */
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

/** Whole or not at all, and for its owner only. */
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
