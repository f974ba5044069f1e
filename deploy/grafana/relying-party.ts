import { type DashboardDraft, labelVariable, orZero } from './dashboard.ts'
import { badFrom, goodFrom, JOB, worseFrom } from './look.ts'
import { chart, stat, text } from './panels.ts'

/** Every metric of single clients. Only clients that one of them names can be chosen from the list. */
const NAMED = [
  'curfew_deliveries_pending',
  'curfew_dead_letters',
  'curfew_endpoint_breakers_open',
  'curfew_sessions_overlong',
  'curfew_audit_passed',
].join('|')
const ANY = `__name__=~"${NAMED}",${JOB}`
const CLIENT = `${JOB},issuer="$issuer",client_id="$client_id"`
const COMMANDS = [
  '```',
  'curfew rp show "$client_id" --issuer "$issuer"',
  'curfew rp health "$client_id" --issuer "$issuer"',
  'curfew rp probe "$client_id" --issuer "$issuer"',
  'curfew dlq list --client "$client_id" --issuer "$issuer"',
  'curfew deliveries list --client "$client_id" --issuer "$issuer" --state pending',
  '```',
].join('\n')

/** One relying party, and the promise of its issuer. */
export const RELYING_PARTY: DashboardDraft = {
  name: 'relying-party',
  title: 'Curfew: one relying party',
  description:
    'What waits for one relying party, and why. The list has the clients that Curfew exports: those with waiting deliveries, dead letters, an unavailable endpoint, overlong sessions or an audit.',
  variables: [
    labelVariable({
      ...{ name: 'issuer', label: 'issuer', all: false },
      metric: `{${ANY},issuer!="(rest)"}`,
      description: 'The short name of the issuer.',
    }),
    labelVariable({
      ...{ name: 'client_id', label: 'client', all: false },
      metric: `{${ANY},issuer="$issuer"}`,
      description: 'The client_id of the relying party.',
    }),
  ],
  rows: [
    {
      title: '$client_id at $issuer',
      panels: [
        stat({
          title: 'Waiting deliveries',
          description:
            'Deliveries that are not settled. Without a value, none waits, or fifty clients have older ones.',
          width: 4,
          thresholds: worseFrom(1, 1_000),
          expr: `max(curfew_deliveries_pending{${CLIENT}})`,
        }),
        stat({
          title: 'Oldest waiting delivery',
          description: 'Since the acceptance of its logout.',
          width: 4,
          unit: 's',
          thresholds: worseFrom(60, 600),
          expr: `max(curfew_delivery_oldest_pending_seconds{${CLIENT}})`,
        }),
        stat({
          title: 'Dead letters',
          description: 'Dead letters that were not replayed.',
          width: 4,
          thresholds: badFrom(1),
          expr: `max(curfew_dead_letters{${CLIENT}})`,
        }),
        stat({
          title: 'Workers that pause',
          description:
            'Delivery workers that found an endpoint unavailable, by channel. Each tries it again by itself.',
          width: 4,
          thresholds: badFrom(1),
          expr: `max by (channel) (curfew_endpoint_breakers_open{${CLIENT}})`,
          legend: '{{channel}}',
        }),
        stat({
          title: 'Overlong sessions',
          description: 'Live sessions that have lasted far longer than is normal for this client.',
          width: 4,
          thresholds: worseFrom(1, 100),
          expr: `max(curfew_sessions_overlong{${CLIENT}})`,
        }),
        stat({
          title: 'Last audit',
          description:
            '1: the session was over after the logout. 0: it survived. Without a value, no audit has a result.',
          width: 4,
          thresholds: goodFrom(1),
          expr: `min(curfew_audit_passed{${CLIENT}})`,
        }),
        text({ title: 'Look closer', width: 24, height: 6, content: COMMANDS }),
      ],
    },
    {
      title: 'Over time',
      panels: [
        chart({
          title: 'Waiting deliveries',
          description: 'Deliveries that are not settled.',
          width: 12,
          queries: [{ expr: `max(curfew_deliveries_pending{${CLIENT}})`, legend: 'waiting' }],
        }),
        chart({
          title: 'Oldest waiting delivery',
          description: 'Since the acceptance of its logout.',
          width: 12,
          unit: 's',
          queries: [{ expr: `max(curfew_delivery_oldest_pending_seconds{${CLIENT}})`, legend: 'oldest' }],
        }),
        chart({
          title: 'Dead letters',
          description: 'Dead letters that were not replayed. A replay lowers the number.',
          width: 12,
          queries: [{ expr: `max(curfew_dead_letters{${CLIENT}})`, legend: 'dead letters' }],
        }),
        chart({
          title: 'Workers that pause',
          description: 'Delivery workers that found an endpoint unavailable.',
          width: 12,
          queries: [
            {
              expr: `max by (channel) (curfew_endpoint_breakers_open{${CLIENT}})`,
              legend: '{{channel}}',
            },
          ],
        }),
      ],
    },
    {
      title: 'Audits',
      panels: [
        chart({
          title: 'Propagation in audits',
          description:
            'From the acceptance of the logout to the first answer that shows the session as over.',
          width: 12,
          unit: 's',
          queries: [{ expr: `max(curfew_audit_propagation_seconds{${CLIENT}})`, legend: 'propagation' }],
        }),
        chart({
          title: 'Age of the last audit',
          description: 'Since the last audit with a result. It falls with every audit.',
          width: 12,
          unit: 's',
          queries: [{ expr: `max(curfew_audit_age_seconds{${CLIENT}})`, legend: 'age' }],
        }),
      ],
    },
    {
      title: 'The promise of $issuer',
      panels: [
        stat({
          title: 'Overdue deliveries',
          description: 'Of all clients of the issuer: past the promise, and not settled.',
          width: 8,
          thresholds: badFrom(1),
          expr: orZero(`max(curfew_sla_overdue{${JOB},issuer="$issuer"})`),
        }),
        stat({
          title: 'Error budget left',
          description: 'Of the issuer. 100 % is all of it.',
          width: 8,
          unit: 'percentunit',
          thresholds: goodFrom(0),
          expr: `min(curfew_sla_error_budget_left{${JOB},issuer="$issuer"})`,
        }),
        stat({
          title: 'Burn rate, last hour',
          description: '1 spends the budget exactly within its window.',
          width: 8,
          decimals: 1,
          thresholds: worseFrom(1, 14.4),
          expr: `max(curfew_sla_burn_rate{${JOB},issuer="$issuer",window="1h"})`,
        }),
      ],
    },
  ],
}
