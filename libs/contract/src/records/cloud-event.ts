import type { OutgoingRecord } from '@curfew/domain'

/** The CloudEvents 1.0 attributes of a record. */
export interface CloudEventFacts {
  /** A record that is published twice keeps its id. */
  readonly id: string
  readonly type: string
  /**
   * A URI reference: the `iss` that posted the event, or the API path of the issuer or relying party that the record is about.
   */
  readonly source: string
  /** RFC 3339, UTC. */
  readonly time: string
}

/** The attributes as headers of a record with a JSON value (CloudEvents 1.0, Kafka protocol binding, binary content mode). */
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

/** The `source` of a record about one relying party. */
export function partySource({
  issuer,
  clientId,
}: {
  readonly issuer: string
  readonly clientId: string
}): string {
  return `/v1/issuers/${issuer}/relying-parties/${encodeURIComponent(clientId)}`
}
