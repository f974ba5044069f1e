import type { OutgoingRecord } from '@curfew/domain'

/** What a record is about, in the words of CloudEvents 1.0. */
export interface CloudEventFacts {
  /** The same for one that is published twice. */
  readonly id: string
  readonly type: string
  /** A URI reference: the issuer that said it, or whom it is about, as our API names it. */
  readonly source: string
  /** RFC 3339, UTC. */
  readonly time: string
}

/** Attributes as headers of a record with a JSON value (CloudEvents 1.0, Kafka protocol binding, binary content mode). */
export function cloudEventHeaders({ id, type, source, time }: CloudEventFacts): OutgoingRecord['headers'] {
  return {
    ce_specversion: '1.0',
    ce_id: id,
    ce_source: source,
    ce_type: type,
    ce_time: time,
    'content-type': 'application/json',
  }
}

/** The `source` of what is about one relying party. */
export function partySource({
  issuer,
  clientId,
}: {
  readonly issuer: string
  readonly clientId: string
}): string {
  return `/v1/issuers/${issuer}/relying-parties/${encodeURIComponent(clientId)}`
}
