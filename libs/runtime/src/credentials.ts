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

/** Who calls. */
export interface Credential {
  /** For logs and audit; never the key. */
  readonly name: string
  readonly scopes: ReadonlySet<string>
  readonly access: AccessFilter
  /** Requests that it may make of one process in a second; null: as many as any. */
  readonly requestsPerSecond: number | null
}

/** Says whom a bearer token stands for, or null. */
export type Authenticate = (token: string) => Promise<Credential | null>

export interface ApiKey extends Credential {
  /** What `hashApiKey` gave: the key itself is kept nowhere. */
  readonly hash: Uint8Array
}

/** What a JWT access token of a configured authorization server grants. */
export interface AccessGrant {
  readonly name: string
  readonly scopes: ReadonlySet<string>
  /** Short name of the issuer that it is bound to; null: to none. */
  readonly issuer: string | null
  /** The clients of that issuer that it is bound to; null: to none in particular. */
  readonly clients: readonly string[] | null
}

/** Whether a credential may do what needs `scope`. `admin` may do everything. */
export function hasScope({ scopes }: Pick<Credential, 'scopes'>, scope: string): boolean {
  return scopes.has(scope) || scopes.has('admin')
}

/** Knows a fixed set of API keys. Their hashes are compared, all of them and in constant time. */
export function createApiKeyAuthenticator(keys: readonly ApiKey[]): Authenticate {
  const known = keys.map(({ hash, ...credential }) => ({ hash, credential }))
  return async (token) => {
    const hash = hashApiKey(token)
    let found: Credential | null = null
    for (const key of known) if (timingSafeEqual(key.hash, hash)) found = key.credential
    return found
  }
}

/** A key that may do everything. @param hash what `hashApiKey` gave. */
export function adminKey(name: string, hash: Uint8Array): ApiKey {
  return { name, hash, scopes: new Set(['admin']), access: EVERYTHING, requestsPerSecond: null }
}

/** Who calls a route that is not public: for the audit, and for what a route confines itself to. */
export function callerOf({ credential }: { readonly credential: Credential | null }): Credential {
  if (credential === null) throw new Error('a route that asks who calls is public')
  return credential
}

/** SHA-256 of a key: keys are 32 random bytes, so that no slower hash is needed. */
export function hashApiKey(key: string): Uint8Array {
  return createHash('sha256').update(key, 'utf8').digest()
}

export interface CredentialsDeps {
  /** Keys of the environment. They need no store. */
  readonly fixed: readonly ApiKey[]
  readonly store: CredentialStore
  /** What an access token grants; null where it is none that may be believed. Absent: none is taken. */
  readonly verifyAccessToken?: ((token: string) => Promise<AccessGrant | null>) | null
  readonly log: Log
  readonly now: () => Date
}

export interface Credentials {
  readonly authenticate: Authenticate
  /** Keeps up with what is created and revoked elsewhere, and notes when keys were used. */
  readonly service: Service
}

/** How long a revoked key may go on in another process, in milliseconds. */
const POLL_MS = 1_000
/** What a key that was created looks like. One that is not known may be a moment old; then it is asked for, but no more often than this. */
const CREATED_KEY = /^cfw_[\w-]{43}$/
const UNKNOWN_ASK_MS = 200
const NOTE_USE_MS = 10_000

interface Known extends StoredCredentials {
  readonly byHash: ReadonlyMap<string, StoredCredentials['keys'][number]>
}

/**
 * Knows API keys and access tokens. All keys are held in memory and followed by their revision, so that a request costs
 * no statement, and what was accepted before is accepted still while the ledger is away.
 */
export function createCredentials(deps: CredentialsDeps): Credentials {
  const { store, log, now, verifyAccessToken = null } = deps
  const fixed = createApiKeyAuthenticator(deps.fixed)
  const used = new Map<string, Date>()
  let known: Known | null = null
  let asking: Promise<Known> | null = null
  let looking: Promise<Known> | null = null
  let askedAt = Number.NEGATIVE_INFINITY

  async function read(): Promise<Known> {
    // Nothing is read where nothing has changed.
    if (known !== null && (await store.revision()) === known.revision) return known
    const stored = await store.read()
    known = { ...stored, byHash: new Map(stored.keys.map((key) => [hex(key.hash), key])) }
    return known
  }

  /** What the ledger has now. Those who ask at once share an answer. @throws {LedgerUnavailableError} */
  function catchUp(): Promise<Known> {
    askedAt = now().getTime()
    asking ??= read().finally(() => {
      asking = null
    })
    return asking
  }

  /** What the ledger has as of a moment from now. Whoever guesses keys waits, and all who wait share the answer. */
  function lookAgain(): Promise<Known> {
    looking ??= (async () => {
      await asking?.catch(() => undefined)
      await setTimeout(Math.max(0, askedAt + UNKNOWN_ASK_MS - now().getTime()))
      looking = null
      return catchUp()
    })()
    return looking
  }

  async function ofApiKey(token: string): Promise<Credential | null> {
    const hash = hashApiKey(token)
    const find = ({ byHash }: Known) => {
      const key = byHash.get(hex(hash))
      return key !== undefined && timingSafeEqual(key.hash, hash) ? key : null
    }
    let key = find(known ?? (await catchUp()))
    if (key === null && CREATED_KEY.test(token)) {
      key = find(await lookAgain().catch((error: unknown) => remembered(error)))
    }
    if (key === null || (key.expiresAt !== null && key.expiresAt <= now())) return null
    used.set(key.id, now())
    const { name, scopes, access, requestsPerSecond } = key
    return { name, scopes, access, requestsPerSecond }
  }

  /** While the ledger is away, who was known is known. */
  function remembered(error: unknown): Known {
    if (known === null) throw error
    return known
  }

  async function ofAccessToken(token: string): Promise<Credential | null> {
    const grant = (await verifyAccessToken?.(token)) ?? null
    if (grant === null) return null
    const access = await accessOf(grant)
    return access === null
      ? null
      : { name: grant.name, scopes: grant.scopes, access, requestsPerSecond: null }
  }

  async function accessOf({ issuer, clients }: AccessGrant): Promise<AccessFilter | null> {
    if (issuer === null) return clients === null ? EVERYTHING : null
    const find = ({ issuers }: Known) => issuers.get(issuer as IssuerName)
    // It may have been registered a moment ago.
    const iss =
      find(known ?? (await catchUp())) ?? find(await lookAgain().catch((error: unknown) => remembered(error)))
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
    // What was used meanwhile is noted the next time, and so is everything where the store is away.
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
        const attempt = async (what: string, work: () => Promise<unknown>) => {
          try {
            await work()
          } catch (error) {
            log.warn({ event: `credentials.${what}-failed`, err: error })
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
