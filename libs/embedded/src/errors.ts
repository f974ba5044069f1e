import { CurfewError } from '@curfew/domain'

/** Another living process uses this data folder. */
export class EmbeddedPostgresInUseError extends CurfewError {
  override readonly code = 'ERR_EMBEDDED_POSTGRES_IN_USE'
}

/** The embedded PostgreSQL did not start. The message holds the end of its log. */
export class EmbeddedPostgresFailedError extends CurfewError {
  override readonly code = 'ERR_EMBEDDED_POSTGRES_FAILED'
}
