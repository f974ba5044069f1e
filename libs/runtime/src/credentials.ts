import { createHash, timingSafeEqual } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import {
  type AccessFilter,
  type ClientId,
  type CredentialStore,
  EVERYTHING,
  type IssuerName,
  type StoredCredentials,
} from '@curfew/domain'
import { type Service, sleep } from './lifecycle.ts'
import type { Log } from './log.ts'

/** An authenticated caller. */
export interface Credential {
  /** For logs and the audit; never the key. */
  readonly name: string
  readonly scopes: ReadonlySet<string>
  readonly access: AccessFilter
  /** Requests per second that it may make to one process. Null uses the default of the process. */
  readonly requestsPerSecond: number | null
  /** Null: it does not expire. */
  readonly expiresAt: Date | null
}

/** Returns the credential of a bearer token; null if the token is not valid. */
export type Authenticate = (token: string) => Promise<Credential | null>

export interface ApiKey extends Credential {
  /** The result of `hashApiKey`. The key itself is not stored. */
  readonly hash: Uint8Array
}

/** The rights that an access token (a JWT) of a configured authorization server grants. */
export interface AccessGrant {
  readonly name: string
  readonly scopes: ReadonlySet<string>
  /** Short name of the issuer that it is bound to; null if it is bound to none. */
  readonly issuer: string | null
  /** The clients of that issuer that it is bound to; null if it is bound to none. */
  readonly clients: readonly string[] | null
  readonly expiresAt: Date
}

/** Whether a credential has the rights of `scope`. `admin` has every right. */
export function hasScope({ scopes }: Pick<Credential, 'scopes'>, scope: string): boolean {
  return scopes.has(scope) || scopes.has('admin')
}

/** Authenticates a fixed set of API keys. Compares the hashes of all keys, in constant time. */
export function createApiKeyAuthenticator(keys: readonly ApiKey[]): Authenticate {
  const known = keys.map(({ hash, ...credential }) => ({ hash, credential }))
  return async (token) => {
    const hash = hashApiKey(token)
    let found: Credential | null = null
    for (const key of known) if (timingSafeEqual(key.hash, hash)) found = key.credential
    return found
  }
}

/** A key with every right. @param hash the result of `hashApiKey`. */
export function adminKey(name: string, hash: Uint8Array): ApiKey {
  return {
    name,
    hash,
    scopes: new Set(['admin']),
    access: EVERYTHING,
    requestsPerSecond: null,
    expiresAt: null,
  }
}

/** The caller of a route that is not public, for the audit and for the access filter. */
export function callerOf({ credential }: { readonly credential: Credential | null }): Credential {
  if (credential === null)
    throw new Error('the caller of a public route is unknown; declare a scope for the route')
  return credential
}

/** SHA-256 of a key. Keys are 32 random bytes, so no slower hash is needed. */
export function hashApiKey(key: string): Uint8Array {
  return createHash('sha256').update(key, 'utf8').digest()
}

export interface CredentialsDeps {
  /** Keys from the environment. They need no store. */
  readonly fixed: readonly ApiKey[]
  readonly store: CredentialStore
  /** Returns the grant of an access token; null if the token is not valid. Absent: no access token is accepted. */
  readonly verifyAccessToken?: ((token: string) => Promise<AccessGrant | null>) | null
  readonly log: Log
  readonly now: () => Date
}

export interface Credentials {
  readonly authenticate: Authenticate
  /** Follows keys that other processes create and revoke, and stores when keys were used. */
  readonly service: Service
}

/** How long another process may still accept a revoked key, in milliseconds. */
const POLL_MS = 1_000
/** The form of a created key. An unknown key of this form may be new, so the ledger is read again, at most this often. */
const CREATED_KEY = /^cfw_[\w-]{43}$/
const UNKNOWN_ASK_MS = 200
const NOTE_USE_MS = 10_000

interface Known extends StoredCredentials {
  readonly byHash: ReadonlyMap<string, StoredCredentials['keys'][number]>
}

/**
 * Authenticates API keys and access tokens. All keys are held in memory and read again when their revision changes, so a
 * request costs no statement. While the ledger is unavailable, known keys stay valid.
 */
export function createCredentials(deps: CredentialsDeps): Credentials {
  const { store, log, now, verifyAccessToken = null } = deps
  const fixed = createApiKeyAuthenticator(deps.fixed)
  const used = new Map<string, Date>()
  let known: Known | null = null
  let refreshing: Promise<Known> | null = null
  let lookup: Promise<Known> | null = null
  let readAt = Number.NEGATIVE_INFINITY

  async function read(): Promise<Known> {
    // Without a change of the revision there is nothing to read.
    if (known !== null && (await store.revision()) === known.revision) return known
    const stored = await store.read()
    known = { ...stored, byHash: new Map(stored.keys.map((key) => [hex(key.hash), key])) }
    return known
  }

  /** Reads the current keys. Concurrent callers share one read. @throws {LedgerUnavailableError} */
  function catchUp(): Promise<Known> {
    readAt = now().getTime()
    refreshing ??= read().finally(() => {
      refreshing = null
    })
    return refreshing
  }

  /** Reads the keys again, after a pause. Callers that guess keys must wait, and all waiting callers share the result. */
  function lookAgain(): Promise<Known> {
    lookup ??= (async () => {
      await refreshing?.catch(() => undefined)
      await setTimeout(Math.max(0, readAt + UNKNOWN_ASK_MS - now().getTime()))
      lookup = null
      return catchUp()
    })()
    return lookup
  }

  async function ofApiKey(token: string): Promise<Credential | null> {
    const hash = hashApiKey(token)
    const find = ({ byHash }: Known) => {
      const key = byHash.get(hex(hash))
      return key !== undefined && timingSafeEqual(key.hash, hash) ? key : null
    }
    let key = find(known ?? (await catchUp()))
    if (key === null && CREATED_KEY.test(token)) {
      key = find(await lookAgain().catch((error: unknown) => lastKnown(error)))
    }
    if (key === null || (key.expiresAt !== null && key.expiresAt <= now())) return null
    used.set(key.id, now())
    const { name, scopes, access, requestsPerSecond, expiresAt } = key
    return { name, scopes, access, requestsPerSecond, expiresAt }
  }

  /** The last keys that were read, for the time while the ledger is unavailable. */
  function lastKnown(error: unknown): Known {
    if (known === null) throw error
    return known
  }

  async function ofAccessToken(token: string): Promise<Credential | null> {
    const grant = (await verifyAccessToken?.(token)) ?? null
    if (grant === null) return null
    const access = await accessOf(grant)
    const { name, scopes, expiresAt } = grant
    return access === null ? null : { name, scopes, access, requestsPerSecond: null, expiresAt }
  }

  async function accessOf({ issuer, clients }: AccessGrant): Promise<AccessFilter | null> {
    if (issuer === null) return clients === null ? EVERYTHING : null
    const find = ({ issuers }: Known) => issuers.get(issuer as IssuerName)
    // The issuer may have been registered a moment ago.
    const iss =
      find(known ?? (await catchUp())) ?? find(await lookAgain().catch((error: unknown) => lastKnown(error)))
    if (iss === undefined) return null
    const bound = { issuer: issuer as IssuerName, iss }
    return clients === null
      ? { kind: 'issuer', ...bound }
      : { kind: 'clients', ...bound, clients: new Set(clients as readonly ClientId[]) }
  }

  async function noteUse(): Promise<void> {
    const uses = new Map(used)
    if (uses.size === 0) return
    await store.used(uses)
    // A key that was used meanwhile stays for the next time. If the store is unavailable, all keys stay.
    for (const [id, at] of uses) if (used.get(id) === at) used.delete(id)
  }

  return {
    async authenticate(token) {
      const found = await fixed(token)
      if (found !== null) return found
      return token.split('.').length === 3 ? ofAccessToken(token) : ofApiKey(token)
    },
    service: {
      name: 'credentials',
      async run({ stopping, ready }) {
        ready()
        const attempt = async (what: 'refresh' | 'note-use', work: () => Promise<unknown>) => {
          try {
            await work()
          } catch (error) {
            log.warn({
              event: what === 'refresh' ? 'credentials.refresh-failed' : 'credentials.note-use-failed',
              err: error,
            })
          }
        }
        let notedAt = now().getTime()
        while (!stopping.aborted) {
          await attempt('refresh', catchUp)
          if (now().getTime() - notedAt >= NOTE_USE_MS) {
            notedAt = now().getTime()
            await attempt('note-use', noteUse)
          }
          await sleep(POLL_MS, stopping)
        }
        await attempt('note-use', noteUse)
      },
    },
  }
}

function hex(hash: Uint8Array): string {
  return Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('hex')
}
