import type { AccessConditions } from '@curfew/domain'
import { type Numbered, namedParameters } from '../postgres/parameters.ts'

/** Selects dead letters. A null member does not narrow. */
export interface DeadLetterFilter extends AccessConditions {
  /** The kind of the channel. */
  readonly channel: string | null
  readonly reason: string | null
  /** Dead-lettered at or after. */
  readonly from: Date | null
  /** Dead-lettered before. */
  readonly to: Date | null
  readonly ids: readonly string[] | null
}

/** A filter as JSON has it: in the `replays` table, in the audit log and in the API. It has the members that narrow. */
export interface DeadLetterFilterJson {
  issuer?: string
  client_id?: string
  /** Where there is not exactly one. */
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

/** The parameters and conditions of a filter, except its issuer, clients and channel, which `bindingsSql` resolves. */
export function filterParameters(after?: Numbered) {
  const { $, values, last } = namedParameters(
    { from: 'timestamptz', to: 'timestamptz', reason: 'text', ids: 'uuid[]' },
    after && { after },
  )
  return {
    last,
    values: ({ from, to, reason, ids }: DeadLetterFilter) =>
      values({ from: from ?? '-infinity', to: to ?? 'infinity', reason, ids }),
    /** SQL: the condition that an index serves. */
    died: (row: string) => `${row}.dead_lettered_at is not null
      and ${row}.dead_lettered_at >= ${$.from} and ${row}.dead_lettered_at < ${$.to}`,
    /** SQL: the others. */
    matches: (row: string) => `${row}.erased_at is null
      and (${$.reason} is null or ${row}.dead_letter_reason = ${$.reason}) and (${$.ids} is null or ${row}.id = any(${$.ids}))`,
  }
}

/** SQL: whether the session is over, by the database's clock. */
export const HAS_LAPSED = '(d.session_ends_at is not null and d.session_ends_at <= now())'
