import { type DashboardDraft, orZero, RELYING_PARTY_LINK } from './dashboard.ts'
import { badFrom, goodFrom, JOB, worseFrom } from './look.ts'
import { chart, stat } from './panels.ts'
import { table } from './table.ts'

const RATE = '[$__rate_interval]'

/** Answers, in the order in which a person on call looks: are relying parties notified, which work waits, who is unavailable? */
export const OVERVIEW: DashboardDraft = {
  name: 'overview',
  title: 'Curfew: overview',
  description: 'Whether logouts reach the relying parties, and which work waits.',
  rows: [
    {
      title: 'Do logouts reach the relying parties?',
      panels: [
        stat({
          title: 'Overdue deliveries',
          description: 'Deliveries that are past the promise of their issuer and not settled.',
          width: 4,
          thresholds: badFrom(1),
          expr: orZero(`sum(max by (issuer) (curfew_sla_overdue{${JOB}}))`),
        }),
        stat({
          title: 'Fastest burn, last hour',
          description:
            'The error budget of the worst issuer. 1 spends it exactly within its window. 14.4 pages, 6 over six hours makes a ticket.',
          width: 4,
          decimals: 1,
          thresholds: worseFrom(1, 14.4),
          expr: `max(curfew_sla_burn_rate{${JOB},window="1h"})`,
        }),
        stat({
          title: 'Oldest waiting delivery',
          description: 'Since the acceptance of its logout. The bulk lane does not count.',
          width: 4,
          unit: 's',
          thresholds: worseFrom(60, 600),
          expr: orZero(`max(curfew_delivery_oldest_pending_seconds{${JOB}})`),
        }),
        stat({
          title: 'Unavailable endpoints',
          description: 'Endpoints to which at least one delivery worker pauses deliveries.',
          width: 4,
          thresholds: worseFrom(1, 10),
          expr: orZero(`count(max by (issuer, client_id, channel) (curfew_endpoint_breakers_open{${JOB}}))`),
        }),
        stat({
          title: 'Delivery workers',
          description: 'Workers that are alive. Without one, accepted logouts wait in the event log.',
          width: 4,
          thresholds: goodFrom(1),
          expr: `max(curfew_workers_alive{${JOB}})`,
        }),
        stat({
          title: 'Bookkeepers',
          description:
            'Bookkeepers that are alive. Without one, most numbers of this page are missing, and no receipt is issued.',
          width: 4,
          thresholds: goodFrom(1),
          expr: `max(curfew_bookkeepers_alive{${JOB}})`,
        }),
        chart({
          title: 'Deliveries by next state',
          description: 'Rounds of attempts. A delivery in `pending` is tried again.',
          width: 12,
          unit: 'cps',
          stacked: true,
          queries: [
            {
              expr: `sum by (state) (rate(curfew_deliveries_settled_total{${JOB}}${RATE}))`,
              legend: '{{state}}',
            },
          ],
        }),
        chart({
          title: 'Overdue deliveries',
          description: 'By issuer: past the promise, and not settled.',
          width: 12,
          queries: [{ expr: `max by (issuer) (curfew_sla_overdue{${JOB}})`, legend: '{{issuer}}' }],
        }),
      ],
    },
    {
      title: 'Which work waits?',
      panels: [
        chart({
          title: 'Waiting deliveries',
          description:
            'Deliveries that are not settled, of the ten clients with the most. `(rest)` sums the clients beyond the fifty with the oldest.',
          width: 12,
          queries: [
            {
              expr: `topk(10, max by (issuer, client_id) (curfew_deliveries_pending{${JOB}}))`,
              legend: '{{issuer}} {{client_id}}',
            },
          ],
        }),
        chart({
          title: 'Oldest waiting delivery',
          description: 'Of the ten clients with the oldest, since the acceptance of the logout.',
          width: 12,
          unit: 's',
          queries: [
            {
              expr: `topk(10, max by (issuer, client_id) (curfew_delivery_oldest_pending_seconds{${JOB}}))`,
              legend: '{{issuer}} {{client_id}}',
            },
          ],
        }),
        chart({
          title: 'Oldest record of the event log',
          description: 'Accepted records that no worker has planned. The bulk lane yields to the others.',
          width: 12,
          unit: 's',
          thresholds: badFrom(60),
          queries: [{ expr: `max by (lane) (curfew_event_log_oldest_seconds{${JOB}})`, legend: '{{lane}}' }],
        }),
        chart({
          title: 'Records in the event log',
          description: 'Records that wait. In PostgreSQL they are counted to 100,000.',
          width: 12,
          queries: [{ expr: `max by (lane) (curfew_event_log_lag_records{${JOB}})`, legend: '{{lane}}' }],
        }),
      ],
    },
    {
      title: 'Which relying parties are unavailable?',
      panels: [
        table({
          title: 'Relying parties',
          description: 'The fifty worst by each column. Select a client to see it alone.',
          width: 24,
          labels: ['issuer', 'client_id'],
          columns: [
            {
              name: 'oldest waiting',
              unit: 's',
              thresholds: worseFrom(60, 600),
              expr: `max by (issuer, client_id) (curfew_delivery_oldest_pending_seconds{${JOB}})`,
            },
            {
              name: 'waiting',
              expr: `max by (issuer, client_id) (curfew_deliveries_pending{${JOB}})`,
            },
            {
              name: 'dead letters',
              thresholds: badFrom(1),
              expr: `max by (issuer, client_id) (curfew_dead_letters{${JOB}})`,
            },
            {
              name: 'workers that pause',
              thresholds: badFrom(1),
              expr: `max by (issuer, client_id) (curfew_endpoint_breakers_open{${JOB}})`,
            },
          ],
          sortBy: 'oldest waiting',
          link: RELYING_PARTY_LINK,
        }),
        chart({
          title: 'New dead letters by reason',
          description:
            'Deliveries that were given up until a person acts. `curfew dlq list` has the remedies.',
          width: 12,
          unit: 'cps',
          queries: [
            {
              expr: `sum by (reason) (rate(curfew_deliveries_settled_total{${JOB},state="dead_lettered"}${RATE}))`,
              legend: '{{reason}}',
            },
          ],
        }),
        chart({
          title: 'Failed requests by class',
          description: 'Requests without an answer: DNS, refused connections, TLS, timeouts and others.',
          width: 12,
          unit: 'cps',
          queries: [
            {
              expr: `sum by (class) (rate(curfew_outbound_failures_total{${JOB}}${RATE}))`,
              legend: '{{class}}',
            },
          ],
        }),
      ],
    },
    {
      title: 'What needs a person?',
      panels: [
        stat({
          title: 'Dead letters',
          description: 'Dead letters that were not replayed. Run `curfew dlq list`.',
          width: 4,
          thresholds: worseFrom(1, 100),
          expr: orZero(`sum(max by (issuer, client_id) (curfew_dead_letters{${JOB}}))`),
        }),
        stat({
          title: 'Quarantined records',
          description: 'Accepted records that cannot be planned or applied. Run `curfew quarantine list`.',
          width: 4,
          thresholds: badFrom(1),
          expr: orZero(`sum(max by (lane) (curfew_quarantined_records{${JOB}}))`),
        }),
        stat({
          title: 'Orphaned sessions',
          description: 'Sessions that should be over and are not. Run `curfew sessions orphans`.',
          width: 4,
          thresholds: worseFrom(1, 100),
          expr: orZero(`sum(max by (issuer) (curfew_sessions_orphaned{${JOB}}))`),
        }),
        stat({
          title: 'Overlong sessions',
          description: 'Sessions that have lasted far longer than is normal for their client.',
          width: 4,
          thresholds: worseFrom(1, 100),
          expr: orZero(`sum(max by (issuer, client_id) (curfew_sessions_overlong{${JOB}}))`),
        }),
        stat({
          title: 'Failed audits',
          description:
            'Relying parties whose session survived the last logout audit. Run `curfew audit list`.',
          width: 4,
          thresholds: badFrom(1),
          expr: orZero(`count(max by (issuer, client_id) (curfew_audit_passed{${JOB}}) == 0)`),
        }),
        stat({
          title: 'Records removed unread',
          description: 'Records that Kafka removed before a worker read them. Each accepted logout is lost.',
          width: 4,
          thresholds: badFrom(1),
          expr: orZero(`sum(curfew_event_log_records_removed_total{${JOB}})`),
        }),
      ],
    },
    {
      title: 'Relay',
      panels: [
        chart({
          title: 'Logout tokens by result',
          description:
            '`refused` is answered with 400. `unavailable` is answered with 503, and its logout is lost.',
          width: 8,
          unit: 'cps',
          queries: [
            {
              expr: `sum by (result) (rate(curfew_relay_tokens_total{${JOB}}${RATE}))`,
              legend: '{{result}}',
            },
          ],
        }),
        chart({
          title: 'Tokens in the spool',
          description: 'Tokens that wait on the disk of a process, because the event log does not take them.',
          width: 8,
          queries: [{ expr: `curfew_relay_spool_entries{${JOB}}`, legend: '{{instance}}' }],
        }),
        chart({
          title: 'Oldest token in the spool',
          description: 'Tokens reach the event log within seconds once it takes records.',
          width: 8,
          unit: 's',
          thresholds: badFrom(120),
          queries: [{ expr: `max(curfew_relay_spool_oldest_seconds{${JOB}})`, legend: 'oldest' }],
        }),
      ],
    },
    {
      title: 'Logout audits',
      panels: [
        table({
          title: 'Audits',
          description:
            'An audit makes a synthetic session, logs it out and asks the relying party whether it is over.',
          width: 24,
          labels: ['issuer', 'client_id'],
          columns: [
            {
              name: 'passed',
              thresholds: goodFrom(1),
              expr: `max by (issuer, client_id) (curfew_audit_passed{${JOB}})`,
            },
            {
              name: 'age',
              unit: 's',
              expr: `max by (issuer, client_id) (curfew_audit_age_seconds{${JOB}})`,
            },
            {
              name: 'propagation',
              unit: 's',
              expr: `max by (issuer, client_id) (curfew_audit_propagation_seconds{${JOB}})`,
            },
          ],
          sortBy: 'age',
          link: RELYING_PARTY_LINK,
        }),
      ],
    },
  ],
}
