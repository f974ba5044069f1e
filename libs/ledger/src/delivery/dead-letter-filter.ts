import type { AccessConditions } from '@curfew/domain'
import { type Numbered, namedParameters } from '../postgres/parameters.ts'

/** Selects dead letters. A null member does not restrict the selection. */
export interface DeadLetterFilter extends AccessConditions {
  /** The kind of the channel. */
  readonly channel: string | null
  readonly reason: string | null
  /** Selects deliveries that became dead letters at or after this time. */
  readonly from: Date | null
  /** Selects deliveries that became dead letters before this time. */
  readonly to: Date | null
  readonly ids: readonly string[] | null
}

/** A filter in JSON, as in the `replays` table, the audit log and the API. A member that does not restrict is absent. */
export interface DeadLetterFilterJson {
  issuer?: string
  client_id?: string
  /** Present instead of `client_id` if the number of clients is not one. */
  client_ids?: string[]
  channel?: string
  reason?: string
  from?: string
  to?: string
  ids?: string[]
}

export function toFilterJson({
  issuer,
  clientIds,
  channel,
  reason,
  from,
  to,
  ids,
}: DeadLetterFilter): DeadLetterFilterJson {
  const [clientId, ...others] = clientIds ?? []
  return {
    ...(issuer !== null && { issuer }),
    ...(clientIds === null
      ? {}
      : clientId !== undefined && others.length === 0
        ? { client_id: clientId }
        : { client_ids: [...clientIds] }),
    ...(channel !== null && { channel }),
    ...(reason !== null && { reason }),
    ...(from !== null && { from: from.toISOString() }),
    ...(to !== null && { to: to.toISOString() }),
    ...(ids !== null && { ids: [...ids] }),
  }
}

export function fromFilterJson(json: DeadLetterFilterJson): DeadLetterFilter {
  return {
    issuer: json.issuer ?? null,
    clientIds: json.client_ids ?? (json.client_id === undefined ? null : [json.client_id]),
    channel: json.channel ?? null,
    reason: json.reason ?? null,
    from: json.from === undefined ? null : new Date(json.from),
    to: json.to === undefined ? null : new Date(json.to),
    ids: json.ids ?? null,
  }
}

/** The parameters and conditions of a filter, without its issuer, clients and channel, which `bindingsSql` resolves. */
export function filterParameters(after?: Numbered) {
  const { $, values, last } = namedParameters(
    { from: 'timestamptz', to: 'timestamptz', reason: 'text', ids: 'uuid[]' },
    after && { after },
  )
  return {
    last,
    values: ({ from, to, reason, ids }: DeadLetterFilter) =>
      values({ from: from ?? '-infinity', to: to ?? 'infinity', reason, ids }),
    /** SQL: the condition on the time, which an index serves. */
    died: (row: string) => `${row}.dead_lettered_at is not null
      and ${row}.dead_lettered_at >= ${$.from} and ${row}.dead_lettered_at < ${$.to}`,
    /** SQL: the other conditions. */
    matches: (row: string) => `${row}.erased_at is null
      and (${$.reason} is null or ${row}.dead_letter_reason = ${$.reason}) and (${$.ids} is null or ${row}.id = any(${$.ids}))`,
  }
}

/** SQL: whether the session has expired, by the database's clock. */
export const HAS_LAPSED = '(d.session_ends_at is not null and d.session_ends_at <= now())'
