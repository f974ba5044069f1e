import { isDeepStrictEqual } from 'node:util'
import type { ClientId, Issuer } from '@curfew/domain'
import { type Database, type RelayRegistry, readRegistryRevision, readRelayRegistry } from '@curfew/ledger'
import { createThrottle, type Log, type Service, sleep, within } from '@curfew/runtime'
import type { RelayedTokenSource } from '@curfew/wiring'

/**
 * The addressee of a post to the relay.
 * - `known`: the client is registered, or the registry cannot be asked for a client that its copy lacks.
 * - `unknown`: the issuer or the client is not registered.
 * - `unread`: nothing is known of the issuer, because the registry cannot be read.
 */
export type Addressee =
  | { readonly kind: 'known'; readonly source: RelayedTokenSource }
  | { readonly kind: 'unknown'; readonly missing: 'issuer' | 'client' }
  | { readonly kind: 'unread' }

/** A copy of the registry in memory, so that a post needs no database. */
export interface RegistryCopy {
  /** Finds a client at an issuer. A client that the copy lacks is looked for in the registry at once. Never rejects. */
  find(issuer: string, clientId: ClientId): Promise<Addressee>
  /** Checks the registry now. @returns the source if the registry has changed since `known` was found; otherwise null. Never rejects. */
  findNewer(issuer: string, clientId: ClientId, known: RelayedTokenSource): Promise<RelayedTokenSource | null>
  /** Reads the registry whenever it has changed. */
  readonly service: Service
}

/** Interval at which the registry is checked for changes, in milliseconds. */
const POLL_MS = 2_000
/** Least time between two checks because of unknown clients, in milliseconds. */
const PAUSE_MS = 200
/** Longest time that a post waits for the registry, in milliseconds. */
const PATIENCE_MS = 1_000

export function createRegistryCopy({ db, log }: { db: Database; log: Log }): RegistryCopy {
  const isTime = createThrottle()
  let copy: RelayRegistry | null = null
  let startedMs = Number.NEGATIVE_INFINITY
  let checking: Promise<boolean> | null = null
  /** The check after the one under way, which all callers that arrive meanwhile share. */
  let next: Promise<boolean> | null = null

  /** @returns whether the copy is as new as this call. */
  async function check(): Promise<boolean> {
    startedMs = performance.now()
    try {
      if (copy === null || (await readRegistryRevision(db)) !== copy.revision)
        copy = await readRelayRegistry(db)
      return true
    } catch (error) {
      // The copy stays in use.
      if (isTime('stale')) log.warn({ event: 'relay.registry-stale', err: error })
      return false
    }
  }

  /** Checks the registry now, or shortly after the last check. @returns whether the copy is as new as this call. */
  function refresh(): Promise<boolean> {
    next ??= (async () => {
      await checking
      const pauseMs = startedMs + PAUSE_MS - performance.now()
      if (pauseMs > 0) await sleep(pauseMs, new AbortController().signal)
      next = null
      checking = check()
      return checking
    })()
    return next
  }

  function lookUp(issuer: string, clientId: ClientId): RelayedTokenSource | 'issuer' | 'client' {
    const known = copy?.issuers.get(issuer)
    if (known === undefined) return 'issuer'
    const { iss, relay, networks, clients } = known
    return clients.has(clientId) ? { iss, clientId, relay, networks } : 'client'
  }

  return {
    async find(issuer, clientId) {
      const found = lookUp(issuer, clientId)
      if (typeof found !== 'string') return { kind: 'known', source: found }
      const isNew = await within(refresh(), PATIENCE_MS, false)
      const missing = lookUp(issuer, clientId)
      if (typeof missing !== 'string') return { kind: 'known', source: missing }
      if (isNew) return { kind: 'unknown', missing }
      // The client may have been registered since the copy was made. The token itself shows whether the issuer knows it.
      const known = copy?.issuers.get(issuer)
      if (known === undefined) return { kind: 'unread' }
      const { iss, relay, networks } = known
      return { kind: 'known', source: { iss: iss as Issuer, clientId, relay, networks } }
    },
    async findNewer(issuer, clientId, known) {
      await within(refresh(), PATIENCE_MS, false)
      const found = lookUp(issuer, clientId)
      return typeof found === 'string' || isDeepStrictEqual(found, known) ? null : found
    },
    service: {
      name: 'registry of the relay',
      async run({ stopping, ready }) {
        ready()
        while (!stopping.aborted) {
          await refresh()
          await sleep(POLL_MS, stopping)
        }
      },
    },
  }
}
