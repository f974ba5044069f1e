import type { Issuer, IssuerName } from '../ids.ts'
import type { AccessFilter } from '../registry/access-filter.ts'

/** An API key as it is kept: only its hash. */
export interface StoredApiKey {
  readonly id: string
  readonly name: string
  /** SHA-256. */
  readonly hash: Uint8Array
  readonly scopes: ReadonlySet<string>
  readonly access: AccessFilter
  readonly requestsPerSecond: number | null
  /** Null: it does not expire. */
  readonly expiresAt: Date | null
}

export interface StoredCredentials {
  readonly revision: number
  /** Those that are not revoked. */
  readonly keys: readonly StoredApiKey[]
  readonly issuers: ReadonlyMap<IssuerName, Issuer>
}

/** Where credentials are kept. Every call rejects with `LedgerUnavailableError` while it is away. */
export interface CredentialStore {
  /** Changes with every change of a key or an issuer, and is cheap to ask for. */
  revision(): Promise<number>
  read(): Promise<StoredCredentials>
  /** Notes when keys were last used, by id. */
  used(uses: ReadonlyMap<string, Date>): Promise<void>
}
