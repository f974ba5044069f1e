import { type Static, Type } from 'typebox'
import { Count, Finding, Text, Time } from './common.ts'

// How the event log stands, as it crosses the API.

const LaneView = Type.Object({
  lane: Type.Union([Type.Literal('interactive'), Type.Literal('bulk'), Type.Literal('sessions')]),
  waiting: Type.Union([Count, Type.Null()], {
    description:
      'Records that wait to be planned or applied; null: not known. The event log in PostgreSQL counts to 100,000.',
  }),
  oldest_s: Type.Union([Type.Number({ minimum: 0 }), Type.Null()], {
    description: 'How long the oldest of them has waited, in seconds. Over Kafka to about a tenth.',
  }),
  unassigned_partitions: Type.Union([Type.Array(Type.Integer()), Type.Null()], {
    description: 'Partitions that belong to no delivery worker; null where workers own no partitions.',
  }),
  removed: Type.Union([Count, Type.Null()], {
    description: 'Records that Kafka removed before a worker had read them.',
  }),
  ...Finding.properties,
})

const TopicView = Type.Object({
  topic: Text,
  findings: Type.Array(
    Type.Object({
      setting: Text,
      actual: Text,
      wanted: Text,
      ...Finding.properties,
      ok: Type.Boolean({ description: 'Whether nothing is lost or refused by it.' }),
    }),
    { description: 'What is not as it must be.' },
  ),
})

/** How far delivery is behind, and whether the topics are as they must be. */
export const EventLogView = Type.Object({
  ok: Type.Boolean(),
  store: Type.Union([Type.Literal('kafka'), Type.Literal('postgresql')]),
  checked_at: Time,
  answer: Type.Object(Finding.properties, { description: 'Whether the event log answers.' }),
  choice: Type.Union([Type.Object(Finding.properties), Type.Null()], {
    description:
      'Whether all services use the same event log. Null: not known, because the event log does not answer.',
  }),
  lanes: Type.Array(LaneView),
  topics: Type.Array(TopicView, { description: 'None where the event log is in PostgreSQL.' }),
})
export type EventLogView = Static<typeof EventLogView>
