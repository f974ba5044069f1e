import type { Database } from '../postgres/database.ts'

/** A sealed secret in any table. */
export interface SealedSecret {
  /** The kind of the secret, which decides its table. Lists are sorted by it. */
  readonly kind:
    | 'audit_secrets'
    | 'client_key'
    | 'confirmation_secret'
    | 'endpoint_secret'
    | 'log_key'
    | 'log_subject_key'
    | 'previous_confirmation_secret'
    | 'previous_webhook_secret'
    | 'signing_key'
    | 'webhook_secret'
  /** Empty for webhooks and the receipt log, which belong to no issuer. */
  readonly issuer: string
  /** The `client_id`, the number of the binding, the `kid` or the name of the webhook. */
  readonly id: string
  /** A compact JWE. */
  readonly sealed: string
  /** The object of the secret, as a path of the API. */
  readonly object: string
}

const LIST_SEALED = `
  select * from (
    select 'audit_secrets' as kind, issuer, client_id as id, sealed_secrets as sealed,
           '/v1/issuers/' || issuer || '/relying-parties/' || client_id || '/audit' as object
      from logout_audit_setups where sealed_secrets is not null
    union all
    select 'client_key', issuer, client_id, settings #>> '{tls,sealed_client_key}',
           '/v1/issuers/' || issuer || '/relying-parties/' || client_id
      from relying_parties where settings #>> '{tls,sealed_client_key}' is not null
    union all
    select 'confirmation_secret', issuer, client_id, settings #>> '{confirmation,sealed_secret}',
           '/v1/issuers/' || issuer || '/relying-parties/' || client_id
      from relying_parties where settings #>> '{confirmation,sealed_secret}' is not null
    union all
    select 'previous_confirmation_secret', issuer, client_id, settings #>> '{confirmation,sealed_previous_secret}',
           '/v1/issuers/' || issuer || '/relying-parties/' || client_id
      from relying_parties where settings #>> '{confirmation,sealed_previous_secret}' is not null
    union all
    select 'endpoint_secret', p.issuer, b.id::text, b.sealed_secret,
           '/v1/issuers/' || p.issuer || '/relying-parties/' || p.client_id
      from bindings b join relying_parties p on p.id = b.relying_party_id where b.sealed_secret is not null
    union all
    select 'log_key', '', kid, sealed_private_key, '/v1/log/keys' from receipt_log
    union all
    select 'log_subject_key', '', kid, sealed_subject_key, '/v1/log/keys' from receipt_log
    union all
    select 'signing_key', issuer, kid, sealed_private_key, '/v1/issuers/' || issuer || '/keys/' || kid
      from signing_keys where sealed_private_key <> ''
    union all
    select 'webhook_secret', '', name, sealed_secret, '/v1/webhooks/' || name from webhooks
    union all
    select 'previous_webhook_secret', '', name, sealed_previous_secret, '/v1/webhooks/' || name
      from webhooks where sealed_previous_secret is not null
  ) s
  where $1::text is null or (kind, issuer, id) > ($1, $2, $3)
  order by kind, issuer, id limit $4`

/** Lists sealed secrets by kind, issuer and id. @param after the last secret of the batch before. */
export async function listSealed(
  db: Database,
  { after, limit }: { after: SealedSecret | null; limit: number },
): Promise<readonly SealedSecret[]> {
  const { rows } = await db.query<SealedSecret>({
    text: LIST_SEALED,
    values: [after?.kind ?? null, after?.issuer ?? null, after?.id ?? null, limit],
  })
  return rows
}

// Changes the revision too, so that an update that read the registration earlier cannot restore the old sealed text.
const replaceSetting = (path: string) => `
  with changed as (update registry_revision set revision = revision + 1 returning revision)
  update relying_parties
     set settings = jsonb_set(settings, '${path}', to_jsonb($4::text)), revision = changed.revision
    from changed
   where issuer = $1 and client_id = $2 and settings #>> '${path}' = $3`
const REPLACE_CLIENT_KEY = replaceSetting('{tls,sealed_client_key}')
const REPLACE_CONFIRMATION_SECRET = replaceSetting('{confirmation,sealed_secret}')
const REPLACE_PREVIOUS_CONFIRMATION_SECRET = replaceSetting('{confirmation,sealed_previous_secret}')
const REPLACE_ENDPOINT_SECRET = `
  with changed as (update registry_revision set revision = revision + 1 returning revision),
  replaced as (
    update bindings b set sealed_secret = $4
      from relying_parties p
     where p.id = b.relying_party_id and p.issuer = $1 and b.id::text = $2 and b.sealed_secret = $3
    returning p.id
  )
  update relying_parties p set revision = changed.revision from changed, replaced where p.id = replaced.id`
const REPLACE_SIGNING_KEY = `
  update signing_keys set sealed_private_key = $4 where issuer = $1 and kid = $2 and sealed_private_key = $3`

// Webhooks have no issuer. $1 occurs because all these statements get the same parameters.
const REPLACE_WEBHOOK_SECRET =
  "update webhooks set sealed_secret = $4 where name = $2 and sealed_secret = $3 and $1::text = ''"
const REPLACE_PREVIOUS_WEBHOOK_SECRET =
  "update webhooks set sealed_previous_secret = $4 where name = $2 and sealed_previous_secret = $3 and $1::text = ''"

const REPLACE_LOG_KEY =
  "update receipt_log set sealed_private_key = $4 where kid = $2 and sealed_private_key = $3 and $1::text = ''"
const REPLACE_LOG_SUBJECT_KEY =
  "update receipt_log set sealed_subject_key = $4 where kid = $2 and sealed_subject_key = $3 and $1::text = ''"

const REPLACE_AUDIT_SECRETS = `
  update logout_audit_setups set sealed_secrets = $4 where issuer = $1 and client_id = $2 and sealed_secrets = $3`

const REPLACE: Readonly<Record<SealedSecret['kind'], string>> = {
  audit_secrets: REPLACE_AUDIT_SECRETS,
  client_key: REPLACE_CLIENT_KEY,
  confirmation_secret: REPLACE_CONFIRMATION_SECRET,
  endpoint_secret: REPLACE_ENDPOINT_SECRET,
  log_key: REPLACE_LOG_KEY,
  log_subject_key: REPLACE_LOG_SUBJECT_KEY,
  signing_key: REPLACE_SIGNING_KEY,
  webhook_secret: REPLACE_WEBHOOK_SECRET,
  previous_confirmation_secret: REPLACE_PREVIOUS_CONFIRMATION_SECRET,
  previous_webhook_secret: REPLACE_PREVIOUS_WEBHOOK_SECRET,
}

/** Stores a secret under its new seal. @returns false, and changes nothing, if the secret changed since it was read. */
export async function replaceSealed(
  db: Database,
  { kind, issuer, id, sealed }: SealedSecret,
  resealed: string,
): Promise<boolean> {
  const { rowCount } = await db.query({ text: REPLACE[kind], values: [issuer, id, sealed, resealed] })
  return rowCount === 1
}
