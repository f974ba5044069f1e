import type { DeliveryLedger, Registry } from '@curfew/ledger'
import { type Log, sleep } from '@curfew/runtime'

/** The registry in memory. */
export interface RegistryCache {
  /** The registry as last read. */
  current(): Registry
  /** Reads the registry. */
  refresh(): Promise<void>
  /** Reads the registry if it has changed. @throws {LedgerUnavailableError} */
  catchUp(): Promise<void>
  /** Reads the registry whenever it has changed, until `ended` aborts. */
  followUntil(ended: AbortSignal): Promise<void>
}

/**
 * Keeps a copy of the registry that is at most about `pollMs` old. An attempt refreshes it only before it gives up on a binding.
 * The ledger checks a plan against the registry's revision, so an outdated copy never plans an event.
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
  let started = 0
  let answered = 0

  async function refresh(): Promise<void> {
    const number = ++started
    const read = await ledger.readRegistry()
    // An earlier read may answer later. Revisions cannot show this: a restored database has lower ones.
    if (number < answered) return
    answered = number
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
          // The copy stays in use. Changes are read when the ledger is available again.
          log.warn({ event: 'registry.stale', err: error })
        }
      }
    },
  }
}
