import { createHash, timingSafeEqual } from 'node:crypto'
import { EVERYTHING, type Reach } from '@curfew/domain'

/** Who calls. */
export interface Credential {
  /** For logs and audit; never the key. */
  readonly name: string
  readonly scopes: ReadonlySet<string>
  readonly reach: Reach
}

/** Says whom a bearer token stands for, or null. */
export type Authenticate = (token: string) => Promise<Credential | null>

export interface ApiKey extends Credential {
  /** What `hashApiKey` gave: the key itself is kept nowhere. */
  readonly hash: Uint8Array
}

/** Whether a credential may do what needs `scope`. `admin` may do everything. */
export function hasScope({ scopes }: Credential, scope: string): boolean {
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
  return { name, hash, scopes: new Set(['admin']), reach: EVERYTHING }
}

/** SHA-256 of a key: keys are 32 random bytes, so that no slower hash is needed. */
export function hashApiKey(key: string): Uint8Array {
  return createHash('sha256').update(key, 'utf8').digest()
}
