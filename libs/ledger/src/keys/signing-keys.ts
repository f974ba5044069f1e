import type { IssuerName, KeyLife, SigningAlgorithm } from '@curfew/domain'
import { type AuditEntry, writeAudit } from '../access/audit.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'

/** A signing key before its life is decided. */
export interface NewSigningKey {
  readonly kid: string
  readonly issuer: IssuerName
  readonly algorithm: SigningAlgorithm
  readonly publicJwk: Readonly<Record<string, unknown>>
  readonly source: 'generated' | 'imported' | 'remote'
  /** A compact JWE under the master key. Empty after erasure, long after the key's end. */
  readonly sealedPrivateKey: string
}

/** A stored signing key. Its private part is sealed. */
export interface SigningKeyRecord extends NewSigningKey, KeyLife {
  readonly createdAt: Date
}

/** The changes of an issuer's keys inside one transaction, which has locked the issuer. */
export interface SigningKeyChanges {
  /** All keys of the issuer, the oldest first. */
  readonly keys: readonly SigningKeyRecord[]
  /** Interval of automatic rotation of generated keys, in days; null: never. */
  readonly everyDays: number | null
  /** Inserts a key. @returns false if the issuer has, or had, a key with this `kid`. */
  insert(key: NewSigningKey, life: { publishedAt: Date; signsFrom: Date }): Promise<boolean>
  /** Moves the start of a key's signing to an earlier time. */
  bringForward(kid: string, signsFrom: Date): Promise<void>
  /** Retires a key: it stops signing at `at`. */
  retire(kid: string, at: Date): Promise<void>
  /** Removes a key from the key set at once. */
  withdraw(kid: string, at: Date): Promise<void>
  /** Erases a key's private part. */
  erase(kid: string): Promise<void>
  schedule(everyDays: number | null): Promise<void>
  audit(entry: AuditEntry): Promise<void>
}

const COLUMNS = `kid, issuer, algorithm, public_jwk as "publicJwk", source,
  sealed_private_key as "sealedPrivateKey", created_at as "createdAt", published_at as "publishedAt",
  signs_from as "signsFrom", retired_at as "retiredAt", withdrawn_at as "withdrawnAt"`

const FIND_SIGNING_KEYS = `select ${COLUMNS} from signing_keys where issuer = $1 order by created_at, signs_from, kid`

/** Finds every signing key that an issuer has or had, the oldest first. */
export async function findSigningKeys(
  db: Queryable,
  issuer: IssuerName,
): Promise<readonly SigningKeyRecord[]> {
  const { rows } = await db.query<SigningKeyRecord>({
    name: 'find_signing_keys',
    text: FIND_SIGNING_KEYS,
    values: [issuer],
  })
  return rows
}

const FIND_ROTATION = 'select every_days as "everyDays" from key_rotations where issuer = $1'

/** Reads the interval of automatic rotation of an issuer's generated keys, in days; null: never. */
export async function findKeyRotation(db: Queryable, issuer: IssuerName): Promise<number | null> {
  const { rows } = await db.query<{ everyDays: number }>({
    name: 'find_key_rotation',
    text: FIND_ROTATION,
    values: [issuer],
  })
  return rows[0]?.everyDays ?? null
}

const LIST_KEY_ISSUERS = 'select distinct issuer from signing_keys order by issuer'

/** Lists the issuers that have keys. */
export async function listKeyIssuers(db: Database): Promise<readonly IssuerName[]> {
  const { rows } = await db.query<{ issuer: IssuerName }>({ text: LIST_KEY_ISSUERS })
  return rows.map(({ issuer }) => issuer)
}

const SAMPLE_SIGNING_KEYS = `
  select ${COLUMNS} from signing_keys where sealed_private_key <> '' order by created_at desc, kid limit $1`

// Serialises changes of an issuer's keys, so that every decision sees the changes before it.
const LOCK_ISSUER = 'select from issuers where name = $1 for no key update'

const INSERT_SIGNING_KEY = `
  insert into signing_keys
    (kid, issuer, algorithm, public_jwk, source, sealed_private_key, created_at, published_at, signs_from)
  values ($1, $2, $3, $4, $5, $6, $7, $7, $8)
  on conflict (issuer, kid) do nothing`

const BRING_FORWARD =
  'update signing_keys set signs_from = $3 where issuer = $1 and kid = $2 and signs_from > $3'
const RETIRE = 'update signing_keys set retired_at = $3 where issuer = $1 and kid = $2 and retired_at is null'
const WITHDRAW =
  'update signing_keys set withdrawn_at = $3 where issuer = $1 and kid = $2 and withdrawn_at is null'
const ERASE = "update signing_keys set sealed_private_key = '' where issuer = $1 and kid = $2"
const SCHEDULE = `
  insert into key_rotations (issuer, every_days) values ($1, $2)
  on conflict (issuer) do update set every_days = excluded.every_days`
const UNSCHEDULE = 'delete from key_rotations where issuer = $1'

/** Changes an issuer's keys in one transaction, one caller at a time. An error thrown by `change` rolls back all changes. */
export function changeSigningKeys<Result>(
  db: Database,
  issuer: IssuerName,
  change: (changes: SigningKeyChanges) => Promise<Result>,
): Promise<Result> {
  return withTransaction(db, async (transaction) => {
    await transaction.query({ name: 'lock_issuer', text: LOCK_ISSUER, values: [issuer] })
    const keys = await findSigningKeys(transaction, issuer)
    const everyDays = await findKeyRotation(transaction, issuer)
    const update = async (text: string, ...values: readonly unknown[]) =>
      void (await transaction.query(text, [issuer, ...values]))
    return change({
      keys,
      everyDays,
      insert: (key, life) => insertKey(transaction, key, life),
      bringForward: (kid, signsFrom) => update(BRING_FORWARD, kid, signsFrom),
      retire: (kid, at) => update(RETIRE, kid, at),
      withdraw: (kid, at) => update(WITHDRAW, kid, at),
      erase: (kid) => update(ERASE, kid),
      schedule: (days) => (days === null ? update(UNSCHEDULE) : update(SCHEDULE, days)),
      audit: (entry) => writeAudit(transaction, entry),
    })
  })
}

async function insertKey(
  transaction: Queryable,
  key: NewSigningKey,
  { publishedAt, signsFrom }: { publishedAt: Date; signsFrom: Date },
): Promise<boolean> {
  const { rowCount } = await transaction.query({
    name: 'insert_signing_key',
    text: INSERT_SIGNING_KEY,
    values: [
      key.kid,
      key.issuer,
      key.algorithm,
      JSON.stringify(key.publicJwk),
      key.source,
      key.sealedPrivateKey,
      publishedAt,
      signsFrom,
    ],
  })
  return rowCount === 1
}

/** Opens the store of signing keys for the keyring. */
export function openKeyStore(db: Database): {
  find(issuer: IssuerName): Promise<readonly SigningKeyRecord[]>
  insertFirst(key: NewSigningKey, now: Date): Promise<readonly SigningKeyRecord[]>
  sample(limit: number): Promise<readonly SigningKeyRecord[]>
} {
  return {
    find: (issuer) => findSigningKeys(db, issuer),
    insertFirst: (key, now) =>
      changeSigningKeys(db, key.issuer, async ({ keys, insert, audit }) => {
        if (keys.some(({ algorithm }) => algorithm === key.algorithm)) return keys
        await insert(key, { publishedAt: now, signsFrom: now })
        // No operator asked for the key: a registration, a probe or a logout needed it.
        await audit({
          credential: 'curfew',
          action: 'key.generated',
          object: `/v1/issuers/${key.issuer}/keys/${encodeURIComponent(key.kid)}`,
          detail: { alg: key.algorithm, source: key.source, signs_from: now.toISOString() },
        })
        const life = { publishedAt: now, signsFrom: now, retiredAt: null, withdrawnAt: null }
        return [...keys, { ...key, ...life, createdAt: now }]
      }),
    async sample(limit) {
      const { rows } = await db.query<SigningKeyRecord>({ text: SAMPLE_SIGNING_KEYS, values: [limit] })
      return rows
    },
  }
}
