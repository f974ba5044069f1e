import type { IssuerName, SigningAlgorithm } from '@curfew/domain'
import type { Database } from './database.ts'

/** A signing key as it is stored: the private part only sealed. */
export interface SigningKeyRecord {
  readonly kid: string
  readonly issuer: IssuerName
  readonly algorithm: SigningAlgorithm
  readonly publicJwk: Readonly<Record<string, unknown>>
  readonly sealedPrivateKey: string
  readonly createdAt: Date
}

const COLUMNS = `kid, issuer, algorithm, public_jwk as "publicJwk", sealed_private_key as "sealedPrivateKey",
  created_at as "createdAt"`

const FIND_SIGNING_KEYS = `select ${COLUMNS} from signing_keys where issuer = $1 order by created_at`

async function findSigningKeys(db: Database, issuer: IssuerName): Promise<readonly SigningKeyRecord[]> {
  const { rows } = await db.query<SigningKeyRecord>({
    name: 'find_signing_keys',
    text: FIND_SIGNING_KEYS,
    values: [issuer],
  })
  return rows
}

// The update that changes nothing is there to make the statement return the row that was first.
const INSERT_SIGNING_KEY = `
  insert into signing_keys (kid, issuer, algorithm, public_jwk, sealed_private_key, created_at)
  values ($1, $2, $3, $4, $5, $6)
  on conflict (issuer, algorithm) do update set issuer = excluded.issuer
  returning ${COLUMNS}`

/** Stores a key unless another was first. @returns the one that is stored: of two workers, both get the same. */
async function insertSigningKeyIfAbsent(db: Database, key: SigningKeyRecord): Promise<SigningKeyRecord> {
  const { rows } = await db.query<SigningKeyRecord>({
    name: 'insert_signing_key',
    text: INSERT_SIGNING_KEY,
    values: [
      key.kid,
      key.issuer,
      key.algorithm,
      JSON.stringify(key.publicJwk),
      key.sealedPrivateKey,
      key.createdAt,
    ],
  })
  const [stored] = rows
  if (stored === undefined) throw new Error(`insert_signing_key returned no row for ${key.kid}`)
  return stored
}

/** The signing keys as a store that the keyring asks. */
export function openKeyStore(db: Database): {
  find(issuer: IssuerName): Promise<readonly SigningKeyRecord[]>
  insertIfAbsent(key: SigningKeyRecord): Promise<SigningKeyRecord>
} {
  return {
    find: (issuer) => findSigningKeys(db, issuer),
    insertIfAbsent: (key) => insertSigningKeyIfAbsent(db, key),
  }
}
