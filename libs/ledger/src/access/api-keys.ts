import {
  type AccessFilter,
  type ClientId,
  type CredentialStore,
  EVERYTHING,
  type Issuer,
  type IssuerName,
} from '@curfew/domain'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { namedParameters } from '../postgres/parameters.ts'
import { readRegistryRevision } from '../registry/registry.ts'
import { writeAudit } from './audit.ts'

/** An API key without its secret. */
export interface ApiKeyRecord {
  readonly id: string
  readonly name: string
  /** The first characters of the key. */
  readonly hint: string
  readonly scopes: readonly string[]
  /** Short name of the issuer that the key is bound to; null: not bound. */
  readonly issuer: string | null
  /** Clients of that issuer that the key is bound to; null: not bound to clients. */
  readonly clients: readonly string[] | null
  readonly requestsPerSecond: number | null
  readonly createdAt: Date
  readonly createdBy: string
  readonly expiresAt: Date | null
  readonly revokedAt: Date | null
  readonly revokedBy: string | null
  /** Accurate to about ten seconds; null: never. */
  readonly lastUsedAt: Date | null
}

const COLUMNS = `id, name, hint, scopes, issuer, clients, requests_per_second as "requestsPerSecond",
  created_at as "createdAt", created_by as "createdBy", expires_at as "expiresAt", revoked_at as "revokedAt",
  revoked_by as "revokedBy", last_used_at as "lastUsedAt"`

const KEY = namedParameters({
  id: 'uuid',
  name: 'text',
  hash: 'bytea',
  hint: 'text',
  scopes: 'text[]',
  issuer: 'text',
  clients: 'text[]',
  requests_per_second: 'integer',
  expires_at: 'timestamptz',
  created_by: 'text',
})
const INSERT_API_KEY = `
  insert into api_keys (${KEY.names}) values (${KEY.list})
  on conflict (name) where revoked_at is null do nothing
  returning ${COLUMNS}`

// Services read credentials again when this number changes.
const NEXT_REVISION = 'update registry_revision set revision = revision + 1'

/** Creates an API key. Its issuer must exist. @returns null if another key with this name is not revoked. */
export async function createApiKey(
  db: Database,
  key: Pick<
    ApiKeyRecord,
    'id' | 'name' | 'hint' | 'scopes' | 'issuer' | 'clients' | 'requestsPerSecond' | 'expiresAt' | 'createdBy'
  > & { readonly hash: Uint8Array },
): Promise<ApiKeyRecord | null> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<ApiKeyRecord>({
      name: 'insert_api_key',
      text: INSERT_API_KEY,
      values: KEY.values({
        ...key,
        hash: Buffer.from(key.hash),
        requests_per_second: key.requestsPerSecond,
        expires_at: key.expiresAt,
        created_by: key.createdBy,
      }),
    })
    const [record] = rows
    if (record === undefined) return null
    await changed(transaction, record, { credential: key.createdBy, action: 'api_key.created' })
    return record
  })
}

const REVOKE_API_KEY = `
  update api_keys set revoked_at = now(), revoked_by = $2 where id = $1 and revoked_at is null returning ${COLUMNS}`

/** Revokes a key. A revoked key stays unchanged. @returns null if there is no key with this id. */
export async function revokeApiKey(
  db: Database,
  { id, revokedBy }: { id: string; revokedBy: string },
): Promise<ApiKeyRecord | null> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<ApiKeyRecord>({
      name: 'revoke_api_key',
      text: REVOKE_API_KEY,
      values: [id, revokedBy],
    })
    const [record] = rows
    if (record === undefined) return findApiKey(transaction, id)
    await changed(transaction, record, { credential: revokedBy, action: 'api_key.revoked' })
    return record
  })
}

async function changed(
  transaction: Queryable,
  { id, name, hint, scopes, issuer, clients, requestsPerSecond, expiresAt }: ApiKeyRecord,
  { credential, action }: { credential: string; action: string },
): Promise<void> {
  await transaction.query({ name: 'next_revision', text: NEXT_REVISION })
  await writeAudit(transaction, {
    credential,
    action,
    object: `/v1/api-keys/${id}`,
    detail: {
      ...{ name, hint, scopes, issuer, clients },
      requests_per_second: requestsPerSecond,
      expires_at: expiresAt,
    },
  })
}

const FIND_API_KEY = `select ${COLUMNS} from api_keys where id = $1`

export async function findApiKey(db: Queryable, id: string): Promise<ApiKeyRecord | null> {
  const { rows } = await db.query<ApiKeyRecord>({ name: 'find_api_key', text: FIND_API_KEY, values: [id] })
  return rows[0] ?? null
}

// Ids are UUIDv7, so that their order is the order of creation.
const LIST_API_KEYS = `
  select ${COLUMNS} from api_keys where id <= coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') and id is distinct from $1 order by id desc limit $2`

/** Lists keys, including revoked ones, the latest first. @param before the last id of the page before. */
export async function listApiKeys(
  db: Database,
  { before, limit }: { before: string | null; limit: number },
): Promise<readonly ApiKeyRecord[]> {
  const { rows } = await db.query<ApiKeyRecord>({ text: LIST_API_KEYS, values: [before, limit] })
  return rows
}

interface CredentialRow {
  readonly id: string
  readonly name: string
  readonly hash: Buffer
  readonly scopes: readonly string[]
  readonly issuer: IssuerName | null
  readonly iss: Issuer | null
  readonly clients: readonly ClientId[] | null
  readonly requestsPerSecond: number | null
  readonly expiresAt: Date | null
}

const READ_API_KEYS = `
  select k.id, k.name, k.hash, k.scopes, k.issuer, i.iss, k.clients,
         k.requests_per_second as "requestsPerSecond", k.expires_at as "expiresAt"
    from api_keys k left join issuers i on i.name = k.issuer and i.deleted_at is null
   where k.revoked_at is null and (k.issuer is null or i.iss is not null)`

const READ_ISSUERS = 'select name, iss from issuers where deleted_at is null'

const NOTE_USE = `
  update api_keys k set last_used_at = greatest(k.last_used_at, used.at)
    from unnest($1::uuid[], $2::timestamptz[]) as used(id, at)
   where k.id = used.id`

/** Opens the store from which services authenticate API keys. */
export function openCredentialStore(db: Database): CredentialStore {
  return {
    revision: () => readRegistryRevision(db),
    async read() {
      // Reads the revision first, so that a change meanwhile is read again and not missed.
      const revision = await readRegistryRevision(db)
      const keys = await db.query<CredentialRow>({ name: 'read_api_keys', text: READ_API_KEYS })
      const issuers = await db.query<{ name: IssuerName; iss: Issuer }>({
        name: 'read_issuers',
        text: READ_ISSUERS,
      })
      return {
        revision,
        keys: keys.rows.map((row) => ({ ...row, scopes: new Set(row.scopes), access: accessOf(row) })),
        issuers: new Map(issuers.rows.map(({ name, iss }) => [name, iss])),
      }
    },
    async used(uses) {
      await db.query({ name: 'note_use', text: NOTE_USE, values: [[...uses.keys()], [...uses.values()]] })
    },
  }
}

function accessOf({ issuer, iss, clients }: CredentialRow): AccessFilter {
  if (issuer === null) return EVERYTHING
  if (iss === null)
    throw new Error(`an API key is bound to the issuer ${issuer}, which does not exist; revoke the key`)
  return clients === null
    ? { kind: 'issuer', issuer, iss }
    : { kind: 'clients', issuer, iss, clients: new Set(clients) }
}
