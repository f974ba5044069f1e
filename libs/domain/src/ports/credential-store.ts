import type { Issuer, IssuerName } from '../ids.ts'
import type { AccessFilter } from '../registry/access-filter.ts'

/** A stored API key. The store has only the hash of the key. */
export interface StoredApiKey {
  readonly id: string
  readonly name: string
  /** SHA-256 of the key. */
  readonly hash: Uint8Array
  readonly scopes: ReadonlySet<string>
  readonly access: AccessFilter
  readonly requestsPerSecond: number | null
  /** Null: it does not expire. */
  readonly expiresAt: Date | null
}

export interface StoredCredentials {
  readonly revision: number
  /** The API keys that are not revoked. */
  readonly keys: readonly StoredApiKey[]
  readonly issuers: ReadonlyMap<IssuerName, Issuer>
}

/** The store of credentials. Every call rejects with `LedgerUnavailableError` while the store is unavailable. */
export interface CredentialStore {
  /** Returns a number that changes with every change of a key or an issuer. A cheap call. */
  revision(): Promise<number>
  read(): Promise<StoredCredentials>
  /** Records when keys were last used, by id. */
  used(uses: ReadonlyMap<string, Date>): Promise<void>
}
