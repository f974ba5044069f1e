import type { DeliveryLedger, Registry } from '@curfew/ledger'
import { type Log, sleep } from '@curfew/runtime'

/** The registry in memory. */
export interface RegistryCache {
  /** As last read. */
  current(): Registry
  /** Reads it now. */
  refresh(): Promise<void>
  /** Reads it now if it has changed since. @throws {LedgerUnavailableError} */
  catchUp(): Promise<void>
  /** Reads it again whenever it has changed, until `ended` aborts. */
  followUntil(ended: AbortSignal): Promise<void>
}

/**
 * Keeps a copy of the registry, at most about `pollMs` behind. Attempts use it as it is, unless it says that there is nobody
 * to tell; a plan is checked against the ledger's own revision as it is written, so a copy from before an event came never plans it.
 */
export function createRegistryCache({
  ledger,
  log,
  pollMs,
}: {
  ledger: Pick<DeliveryLedger, 'readRegistry' | 'readRegistryRevision'>
  log: Log
  pollMs: number
}): RegistryCache {
  let registry: Registry = { revision: -1, issuers: new Map(), bindings: new Map() }
  let asked = 0
  let answered = 0

  async function refresh(): Promise<void> {
    const asking = ++asked
    const read = await ledger.readRegistry()
    // One that was asked for earlier may come later. By its number it could not be told: a restored database counts anew.
    if (asking < answered) return
    answered = asking
    registry = read
  }

  async function catchUp(): Promise<void> {
    if ((await ledger.readRegistryRevision()) !== registry.revision) await refresh()
  }

  return {
    current: () => registry,
    refresh,
    catchUp,
    async followUntil(ended) {
      while (!ended.aborted) {
        await sleep(pollMs, ended)
        try {
          await catchUp()
        } catch (error) {
          // The copy goes on to serve; what was registered meanwhile is read when the ledger is back.
          log.warn({ event: 'registry.stale', err: error })
        }
      }
    },
  }
}
