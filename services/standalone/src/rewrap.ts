import {
  listSealed,
  listSessionTokens,
  openDatabase,
  replaceSealed,
  replaceSessionTokens,
  type SealedSecret,
  type SealedTokens,
} from '@curfew/ledger'
import { createVault, type MasterKeys } from '@curfew/tokens'

/** The progress of a rewrapping. */
export interface RewrapProgress {
  /** Secrets examined. */
  readonly seen: number
  /** Secrets that this run sealed with the new master key. */
  readonly rewrapped: number
  /** Secrets that neither master key opens, by the API path of their owner. */
  readonly unreadable: readonly string[]
}

const BATCH = 100

/**
 * Seals all secrets with the new master key: signing keys, credentials of remote signers, client keys of relying parties, secrets of
 * webhooks and of audits, the keys of the receipt log, and the tokens of sessions. It may be interrupted and run again, because it replaces every secret by itself.
 * Services that have both master keys keep working.
 */
export async function rewrapSecrets(
  databaseUrl: string,
  masterKeys: MasterKeys,
  onProgress: (progress: RewrapProgress) => void = () => undefined,
): Promise<RewrapProgress> {
  const vault = createVault(masterKeys)
  const db = await openDatabase(databaseUrl, { applicationName: 'curfew keys rewrap' })
  try {
    let progress: RewrapProgress = { seen: 0, rewrapped: 0, unreadable: [] }
    /** @param object the path of the owner. */
    const rewrap = async (
      sealed: string,
      object: string,
      replace: (resealed: string) => Promise<boolean>,
    ) => {
      const result = await vault.rewrap(sealed)
      // A secret that was replaced meanwhile is already sealed with the new master key.
      const replaced = result !== null && result !== 'kept' && (await replace(result.sealed))
      const { seen, rewrapped, unreadable } = progress
      const isNew = result === null && !unreadable.includes(object)
      progress = {
        seen: seen + 1,
        rewrapped: rewrapped + (replaced ? 1 : 0),
        unreadable: isNew ? [...unreadable, object] : unreadable,
      }
    }
    for (let after: SealedSecret | null = null; ; ) {
      const batch: readonly SealedSecret[] = await listSealed(db, { after, limit: BATCH })
      for (const secret of batch)
        await rewrap(secret.sealed, secret.object, (resealed) => replaceSealed(db, secret, resealed))
      onProgress(progress)
      after = batch.at(-1) ?? null
      if (after === null) break
    }
    for (let after: SealedTokens | null = null; ; ) {
      const batch: readonly SealedTokens[] = await listSessionTokens(db, { after, limit: BATCH })
      // The path names no session: the output of the command may be logged.
      for (const tokens of batch)
        await rewrap(tokens.sealed, '/v1/sessions', (resealed) => replaceSessionTokens(db, tokens, resealed))
      if (batch.length > 0) onProgress(progress)
      after = batch.at(-1) ?? null
      if (after === null) return progress
    }
  } finally {
    await db.end()
  }
}
