import { type Static, Type } from 'typebox'
import { Count, nullable, Text, Time } from './common.ts'
import { ClientIdText } from './logout-event.ts'

// Whether the promise is kept.

export const SlaQuery = Type.Object(
  {
    issuer: Type.Optional(
      Type.String({ maxLength: 63, description: 'Short name. Required where the caller sees several.' }),
    ),
    client_id: Type.Optional(ClientIdText),
    from: Type.Optional(
      Type.String({
        maxLength: 40,
        description:
          'Accepted at or after this time (RFC 3339), to the full hour before. Default the days of the error budget before to; one day where groups are hours.',
      }),
    ),
    to: Type.Optional(
      Type.String({
        maxLength: 40,
        description: 'Accepted before this time (RFC 3339), to the full hour after. Default now.',
      }),
    ),
    group_by: Type.Optional(Type.Union([Type.Literal('relying_party'), Type.Literal('hour')])),
  },
  { additionalProperties: false },
)

const promise = {
  within_ms: Type.Integer({ description: 'From acceptance (202) to the end of the delivery.' }),
  objective: Type.Number({ description: 'The share of deliveries that this is promised for.' }),
}

const figures = {
  planned: Type.Integer({
    minimum: 0,
    description:
      'Deliveries that were owed. A relying party that has several channels counts once for each logout.',
  }),
  settled: Type.Integer({
    minimum: 0,
    description: 'Of these, ended. Each counts once, as it ended the first time: replays change nothing.',
  }),
  kept: Type.Integer({
    minimum: 0,
    description:
      'Settled within the promise: acknowledged at a level that its channel counts, superseded or lapsed.',
  }),
  broken: Type.Integer({
    minimum: 0,
    description: 'Settled too late, acknowledged at a weaker level, or dead-lettered.',
  }),
  overdue: Type.Integer({
    minimum: 0,
    description: 'Not settled, and the promise is past, to five minutes: broken too.',
  }),
  waiting: Type.Integer({ minimum: 0, description: 'Not settled, and there is time left: not decided.' }),
  share_kept: Type.Union([Type.Number(), Type.Null()], {
    description: 'Of what is decided, from 0 to 1; null where nothing is.',
  }),
  elapsed_ms: Type.Union(
    [Type.Object({ p50: Type.Integer(), p95: Type.Integer(), p99: Type.Integer() }), Type.Null()],
    {
      description:
        'From acceptance (202) to acknowledgement, without what was replayed; within 2 % of the true percentile, or 1 ms.',
    },
  ),
  error_budget: Type.Object({
    allowed: Type.Number({
      description: 'How many may be broken: of each relying party the share that its objective leaves.',
    }),
    spent: Type.Integer({ minimum: 0, description: 'How many are: broken and overdue.' }),
    left: Type.Number({ description: 'Below zero where more is spent than there was.' }),
    share_left: Type.Number({ description: '1: nothing is spent. 0: all is. Below zero: more than that.' }),
  }),
}

/** How the promise stands with one relying party, or in one hour. */
export const SlaGroup = Type.Object({
  client_id: Type.Optional(Text),
  promise: Type.Optional(Type.Object(promise)),
  hour: Type.Optional(Time),
  ...figures,
})
export type SlaGroup = Static<typeof SlaGroup>

export const Sla = Type.Object({
  issuer: Text,
  client_id: nullable(Text),
  from: Time,
  to: Time,
  as_of: Type.String({ description: 'What was planned and settled until then is counted.' }),
  promise: Type.Object({
    ...promise,
    window_days: Type.Integer({ description: 'Days that the error budget is for.' }),
  }),
  ...figures,
  burn_rate: Type.Object(
    {
      '5m': nullable(Type.Number()),
      '30m': nullable(Type.Number()),
      '1h': nullable(Type.Number()),
      '6h': nullable(Type.Number()),
    },
    {
      description:
        'How many times as fast as it may last the error budget is spent, over so long until within_ms ago, for what was accepted since cannot be late yet, to full five minutes. Null: no traffic.',
    },
  ),
  at_risk: Type.Object(
    { waiting: Count, overdue: Count },
    { description: 'Deliveries that are under way now: with time left, and past the promise.' },
  ),
  groups: Type.Optional(Type.Array(SlaGroup)),
})
export type Sla = Static<typeof Sla>
