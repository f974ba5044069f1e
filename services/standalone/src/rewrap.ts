import { listSealed, openDatabase, replaceSealed, type SealedSecret } from '@curfew/ledger'
import { createVault, type MasterKeys } from '@curfew/tokens'

/** How far a rewrapping is. */
export interface RewrapProgress {
  /** Secrets looked at. */
  readonly seen: number
  /** Of those: put under the new master key by this run. */
  readonly rewrapped: number
  /** Of those: opened by neither master key, as the API names what they belong to. */
  readonly unreadable: readonly string[]
}

const BATCH = 100

/**
 * Puts everything that lies under the old master key under the new one: signing keys, credentials of remote signers, client
 * keys of relying parties, secrets of webhooks, the keys of the log of receipts. May be stopped at any moment and run again: what is done is done, each secret by itself; services
 * that have both master keys read on all the while.
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
        // What was stored anew meanwhile lies under the new one already.
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
