import { type Static, Type } from 'typebox'
import { Count, Finding, Text, Time } from './common.ts'
import { model } from './model.ts'

// Schema of the state of the event log.

const LaneView = Type.Object({
  lane: Type.Union([Type.Literal('interactive'), Type.Literal('bulk'), Type.Literal('sessions')]),
  waiting: Type.Union([Count, Type.Null()], {
    description:
      'Records that wait to be planned or applied; null if not known. In PostgreSQL counted up to 100,000.',
  }),
  oldest_s: Type.Union([Type.Number({ minimum: 0 }), Type.Null()], {
    description:
      'Waiting time of the oldest of these records, in seconds. With Kafka accurate to about a tenth.',
  }),
  unassigned_partitions: Type.Union([Type.Array(Type.Integer()), Type.Null()], {
    description: 'Partitions without a delivery worker; null if workers do not own partitions.',
  }),
  removed: Type.Union([Count, Type.Null()], {
    description: 'Records that Kafka removed before a worker read them.',
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
      ok: Type.Boolean({ description: 'False if records may be lost or refused because of this setting.' }),
    }),
    { description: 'The settings that differ from the wanted ones.' },
  ),
})

/** The backlog of each lane, and the check of the topics. */
export const EventLogView = model('EventLogView', {
  ok: Type.Boolean(),
  store: Type.Union([Type.Literal('kafka'), Type.Literal('postgresql')]),
  checked_at: Time,
  answer: Type.Object(Finding.properties, { description: 'Whether the event log answers.' }),
  choice: Type.Union([Type.Object(Finding.properties), Type.Null()], {
    description:
      'Whether all services use the same event log. Null if not known, because the event log does not answer.',
  }),
  workers_alive: Type.Integer({
    minimum: 0,
    description: 'Delivery workers with a heartbeat in the last 30 s.',
  }),
  bookkeepers_alive: Type.Integer({
    minimum: 0,
    description: 'Bookkeepers with a heartbeat in the last 30 s.',
  }),
  clock_offset_seconds: Type.Number({
    description:
      'The clock of the service that answers minus that of PostgreSQL, to about half a round trip.',
  }),
  lanes: Type.Array(LaneView),
  topics: Type.Array(TopicView, { description: 'Empty if the event log is in PostgreSQL.' }),
})
export type EventLogView = Static<typeof EventLogView>
