import { type Static, Type } from 'typebox'
import { Count, nullable, Text, Time } from './common.ts'
import { instantParameter } from './instant.ts'
import { ClientIdText } from './logout-event.ts'
import { model } from './model.ts'

// Schemas of the SLA report.

export const SlaQuery = Type.Object(
  {
    issuer: Type.Optional(
      Type.String({
        maxLength: 63,
        description: 'Short name of the issuer. Required if the credential sees several issuers.',
      }),
    ),
    client_id: Type.Optional(ClientIdText),
    from: Type.Optional(
      instantParameter(
        'Accepted at or after this time (RFC 3339), rounded down to the full hour. Default: the days of the error budget before to, or one day before to if grouped by hour.',
      ),
    ),
    to: Type.Optional(
      instantParameter('Accepted before this time (RFC 3339), rounded up to the full hour. Default: now.'),
    ),
    group_by: Type.Optional(Type.Union([Type.Literal('relying_party'), Type.Literal('hour')])),
  },
  { additionalProperties: false },
)

const promise = {
  within_ms: Type.Integer({
    description: 'Time limit from acceptance (202) to settlement of a delivery, in milliseconds.',
  }),
  objective: Type.Number({
    description: 'The share of deliveries that must be settled in time, between 0 and 1.',
  }),
}

const figures = {
  planned: Type.Integer({
    minimum: 0,
    description: 'Number of deliveries. The channels of a relying party count as one delivery per logout.',
  }),
  settled: Type.Integer({
    minimum: 0,
    description:
      'Number of settled deliveries among these. Each counts once, with its first result: replays change nothing.',
  }),
  kept: Type.Integer({
    minimum: 0,
    description:
      'Number of deliveries settled in time: acknowledged at a sufficient level, superseded or lapsed.',
  }),
  broken: Type.Integer({
    minimum: 0,
    description:
      'Number of deliveries settled too late, acknowledged at a level that does not count, or dead-lettered.',
  }),
  overdue: Type.Integer({
    minimum: 0,
    description:
      'Number of unsettled deliveries past the time limit, accurate to five seconds. They are not in broken, but they spend the error budget.',
  }),
  waiting: Type.Integer({
    minimum: 0,
    description: 'Number of unsettled deliveries with time left. They do not count yet.',
  }),
  share_kept: Type.Union([Type.Number(), Type.Null()], {
    description:
      'Share of kept deliveries among kept, broken and overdue, from 0 to 1; null if there are none.',
  }),
  elapsed_ms: Type.Union(
    [Type.Object({ p50: Type.Integer(), p95: Type.Integer(), p99: Type.Integer() }), Type.Null()],
    {
      description:
        'Milliseconds from acceptance (202) to acknowledgement, without replayed deliveries. Accurate to 2 % or 1 ms.',
    },
  ),
  error_budget: Type.Object({
    allowed: Type.Number({
      description:
        'Number of deliveries that may be broken: for each relying party, its deliveries multiplied by 1 − objective.',
    }),
    spent: Type.Integer({ minimum: 0, description: 'Number of broken and overdue deliveries.' }),
    left: Type.Number({ description: 'allowed minus spent. Below zero if the budget is exceeded.' }),
    share_left: Type.Number({
      description:
        'Share of the budget that is left. 1: nothing is spent. 0: all is spent. Below zero: the budget is exceeded.',
    }),
  }),
}

/** The SLA figures of one relying party, or of one hour. */
export const SlaGroup = model('SlaGroup', {
  client_id: Type.Optional(Text),
  promise: Type.Optional(Type.Object(promise)),
  hour: Type.Optional(Time),
  ...figures,
})
export type SlaGroup = Static<typeof SlaGroup>

export const Sla = model('Sla', {
  issuer: Text,
  client_id: nullable(Text),
  from: Time,
  to: Time,
  as_of: Type.String({
    description: 'Deliveries that were planned and settled until this time are counted.',
  }),
  not_counted_yet: Type.Union([Type.String(), Type.Null()], {
    description:
      'Why accepted logouts are not counted yet: no delivery worker is alive, or the event log has a backlog. Null: none is known to wait for more than a minute.',
  }),
  promise: Type.Object({
    ...promise,
    window_days: Type.Integer({ description: 'Days of the error budget.' }),
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
        'Speed at which the error budget is spent, over the interval of that length. 1 spends exactly the budget of the whole window. The intervals end within_ms ago, because later logouts cannot be late yet, rounded down to five seconds. Null: no traffic.',
    },
  ),
  at_risk: Type.Object(
    { waiting: Count, overdue: Count },
    {
      description:
        'Unsettled deliveries at this time: with time left (waiting), and past the time limit (overdue).',
    },
  ),
  groups: Type.Optional(Type.Array(SlaGroup)),
})
export type Sla = Static<typeof Sla>
