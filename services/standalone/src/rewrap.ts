import { listSealed, openDatabase, replaceSealed, type SealedSecret } from '@curfew/ledger'
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
 * webhooks and of audits, and the keys of the receipt log. It may be interrupted and run again, because it replaces every secret by itself.
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
    for (let after: SealedSecret | null = null; ; ) {
      const batch: readonly SealedSecret[] = await listSealed(db, { after, limit: BATCH })
      for (const secret of batch) {
        const result = await vault.rewrap(secret.sealed)
        // A secret that was replaced meanwhile is already sealed with the new master key.
        const replaced =
          result !== null && result !== 'kept' && (await replaceSealed(db, secret, result.sealed))
        progress = {
          seen: progress.seen + 1,
          rewrapped: progress.rewrapped + (replaced ? 1 : 0),
          unreadable: result === null ? [...progress.unreadable, secret.object] : progress.unreadable,
        }
      }
      onProgress(progress)
      after = batch.at(-1) ?? null
      if (after === null) return progress
    }
  } finally {
    await db.end()
  }
}
