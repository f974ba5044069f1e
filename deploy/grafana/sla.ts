import { type DashboardDraft, labelVariable, orZero } from './dashboard.ts'
import { badFrom, goodFrom, JOB, worseFrom } from './look.ts'
import { chart, stat } from './panels.ts'
import { table } from './table.ts'

const ISSUER = `${JOB},issuer=~"$issuer"`
const burn = (window: string) => `max by (issuer) (curfew_sla_burn_rate{${ISSUER},window="${window}"})`

/** The promises of issuers. */
export const SLA: DashboardDraft = {
  name: 'sla',
  title: 'Curfew: SLA',
  description:
    'Whether logouts keep the promises of their issuers, and how fast the error budgets are spent.',
  variables: [
    labelVariable({
      ...{ name: 'issuer', label: 'issuer', all: true },
      metric: `curfew_sla_share_kept{${JOB}}`,
      description: 'The short names of issuers.',
    }),
  ],
  rows: [
    {
      title: 'Now',
      panels: [
        stat({
          title: 'Worst share kept',
          description: 'The share of logouts that kept the promise, within the window of the issuer.',
          width: 6,
          unit: 'percentunit',
          decimals: 3,
          expr: `min(curfew_sla_share_kept{${ISSUER}})`,
        }),
        stat({
          title: 'Least error budget left',
          description: '100 % is all of the budget. Below 0 %, more is broken than the objective allows.',
          width: 6,
          unit: 'percentunit',
          decimals: 1,
          thresholds: goodFrom(0),
          expr: `min(curfew_sla_error_budget_left{${ISSUER}})`,
        }),
        stat({
          title: 'Overdue deliveries',
          description: 'Past the promise, and not settled. They spend the budget.',
          width: 6,
          thresholds: badFrom(1),
          expr: orZero(`sum(max by (issuer) (curfew_sla_overdue{${ISSUER}}))`),
        }),
        stat({
          title: 'Fastest burn, last hour',
          description: '1 spends the budget exactly within its window.',
          width: 6,
          decimals: 1,
          thresholds: worseFrom(1, 14.4),
          expr: `max(curfew_sla_burn_rate{${ISSUER},window="1h"})`,
        }),
        table({
          title: 'Issuers',
          description:
            'The same, for each issuer. `curfew sla --by relying-party --issuer NAME` shows its relying parties.',
          width: 24,
          labels: ['issuer'],
          columns: [
            {
              name: 'budget left',
              unit: 'percentunit',
              thresholds: goodFrom(0),
              expr: `min by (issuer) (curfew_sla_error_budget_left{${ISSUER}})`,
            },
            {
              name: 'kept',
              unit: 'percentunit',
              expr: `min by (issuer) (curfew_sla_share_kept{${ISSUER}})`,
            },
            {
              name: 'overdue',
              thresholds: badFrom(1),
              expr: `max by (issuer) (curfew_sla_overdue{${ISSUER}})`,
            },
            { name: 'burn 5m', thresholds: worseFrom(1, 14.4), expr: burn('5m') },
            { name: 'burn 1h', thresholds: worseFrom(1, 14.4), expr: burn('1h') },
            { name: 'burn 30m', thresholds: worseFrom(1, 6), expr: burn('30m') },
            { name: 'burn 6h', thresholds: worseFrom(1, 6), expr: burn('6h') },
          ],
          sortBy: 'burn 1h',
        }),
      ],
    },
    {
      title: 'How fast is the error budget spent?',
      panels: [
        chart({
          title: 'Burn rate, last hour and last 5 minutes',
          description: 'A page if both are above 14.4.',
          width: 12,
          decimals: 1,
          thresholds: worseFrom(1, 14.4),
          queries: [
            { expr: burn('1h'), legend: '{{issuer}} 1h' },
            { expr: burn('5m'), legend: '{{issuer}} 5m' },
          ],
        }),
        chart({
          title: 'Burn rate, last 6 hours and last 30 minutes',
          description: 'A ticket if both are above 6.',
          width: 12,
          decimals: 1,
          thresholds: worseFrom(1, 6),
          queries: [
            { expr: burn('6h'), legend: '{{issuer}} 6h' },
            { expr: burn('30m'), legend: '{{issuer}} 30m' },
          ],
        }),
        chart({
          title: 'Error budget left',
          description: '100 % is all of the budget. It also grows again, as old logouts leave the window.',
          width: 12,
          unit: 'percentunit',
          queries: [
            { expr: `min by (issuer) (curfew_sla_error_budget_left{${ISSUER}})`, legend: '{{issuer}}' },
          ],
        }),
        chart({
          title: 'Share kept',
          description: 'The share of logouts that kept the promise, within the window.',
          width: 12,
          unit: 'percentunit',
          queries: [{ expr: `min by (issuer) (curfew_sla_share_kept{${ISSUER}})`, legend: '{{issuer}}' }],
        }),
        chart({
          title: 'Overdue deliveries',
          description: 'Past the promise, and not settled.',
          width: 24,
          queries: [{ expr: `max by (issuer) (curfew_sla_overdue{${ISSUER}})`, legend: '{{issuer}}' }],
        }),
      ],
    },
  ],
}
