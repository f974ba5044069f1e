import { type DashboardDraft, labelVariable } from './dashboard.ts'
import { badFrom, goodFrom, JOB, worseFrom } from './look.ts'
import { chart, stat } from './panels.ts'
import { table } from './table.ts'

const RATE = '[$__rate_interval]'
const PROCESS = `${JOB},instance=~"$instance"`
const quantile = (share: number, histogram: string, by = '') =>
  `histogram_quantile(${share}, sum by (le${by}) (rate(${histogram}_bucket{${PROCESS}}${RATE})))`

/** The processes of Curfew: workers, bookkeepers, requests, memory. */
export const ENGINE: DashboardDraft = {
  name: 'engine',
  title: 'Curfew: engine',
  description:
    'How the processes of Curfew work: attempts, leases, jobs of the bookkeeper, requests and memory.',
  variables: [
    labelVariable({
      ...{ name: 'instance', label: 'instance', metric: `curfew_build_info{${JOB}}`, all: true },
      description: 'The processes. Numbers of the bookkeeper are about the whole deployment.',
    }),
  ],
  rows: [
    {
      title: 'Processes',
      panels: [
        stat({
          title: 'Delivery workers',
          description: 'Workers that are alive, by the ledger.',
          width: 4,
          thresholds: goodFrom(1),
          expr: `max(curfew_workers_alive{${JOB}})`,
        }),
        stat({
          title: 'Bookkeepers',
          description: 'Bookkeepers that are alive, by the ledger.',
          width: 4,
          thresholds: goodFrom(1),
          expr: `max(curfew_bookkeepers_alive{${JOB}})`,
        }),
        stat({
          title: 'Oldest lease',
          description:
            'How long the oldest lease on deliveries has been held. A minute is normal, five are not.',
          width: 4,
          unit: 's',
          thresholds: badFrom(300),
          expr: `max(curfew_oldest_lease_seconds{${JOB}})`,
        }),
        stat({
          title: 'Worst projection lag',
          description: 'The age of the oldest journal entry that a projector has not taken in.',
          width: 4,
          unit: 's',
          thresholds: worseFrom(60, 600),
          expr: `max(curfew_projection_lag_seconds{${JOB}})`,
        }),
        stat({
          title: 'Oldest event without a checkpoint',
          description:
            'How long the oldest settled event has waited for a receipt under a signed checkpoint.',
          width: 4,
          unit: 's',
          thresholds: worseFrom(300, 1_800),
          expr: `max(curfew_checkpoint_age_seconds{${JOB}})`,
        }),
        stat({
          title: 'Largest clock offset',
          description: 'The clock of a machine minus the clock of the database.',
          width: 4,
          unit: 's',
          thresholds: worseFrom(1, 5),
          expr: `max(abs(curfew_clock_offset_seconds{${JOB}}))`,
        }),
        table({
          title: 'Releases',
          description: 'The processes that are scraped, with their release and Node.js.',
          width: 24,
          labels: ['job', 'instance', 'version', 'node'],
          columns: [
            {
              name: 'processes',
              expr: `count by (job, instance, version, node) (curfew_build_info{${PROCESS}})`,
            },
          ],
          sortBy: 'instance',
        }),
      ],
    },
    {
      title: 'Attempts',
      panels: [
        chart({
          title: 'Attempts by outcome',
          description: 'Requests to relying parties, quick retries included.',
          width: 12,
          unit: 'cps',
          stacked: true,
          queries: [
            {
              expr: `sum by (outcome) (rate(curfew_attempt_duration_seconds_count{${PROCESS}}${RATE}))`,
              legend: '{{outcome}}',
            },
          ],
        }),
        chart({
          title: 'Duration of attempts',
          description: 'From making a message to the end of the answer.',
          width: 12,
          unit: 's',
          queries: [
            { expr: quantile(0.5, 'curfew_attempt_duration_seconds'), legend: 'p50' },
            { expr: quantile(0.95, 'curfew_attempt_duration_seconds'), legend: 'p95' },
            { expr: quantile(0.99, 'curfew_attempt_duration_seconds'), legend: 'p99' },
          ],
        }),
        chart({
          title: 'Running attempts',
          description: 'At most 4,096 in a worker. The second line is the issuer that has the most.',
          width: 8,
          thresholds: badFrom(4_096),
          queries: [
            { expr: `curfew_attempts_running{${PROCESS}}`, legend: '{{instance}}' },
            { expr: `curfew_attempts_running_most{${PROCESS}}`, legend: '{{instance}} one issuer' },
          ],
        }),
        chart({
          title: 'Leased deliveries',
          description: 'Deliveries that a worker has leased.',
          width: 8,
          queries: [{ expr: `curfew_deliveries_held{${PROCESS}}`, legend: '{{instance}}' }],
        }),
        chart({
          title: 'Unavailable endpoints',
          description: 'Endpoints that a worker knows to be unavailable. Workers learn this each for itself.',
          width: 8,
          queries: [{ expr: `curfew_breakers_open{${PROCESS}}`, legend: '{{instance}}' }],
        }),
        chart({
          title: 'Deliveries by channel',
          description: 'Rounds of attempts, by channel and next state.',
          width: 12,
          unit: 'cps',
          queries: [
            {
              expr: `sum by (channel, state) (rate(curfew_deliveries_settled_total{${PROCESS}}${RATE}))`,
              legend: '{{channel}} {{state}}',
            },
          ],
        }),
        chart({
          title: 'Failed requests by class',
          description: 'Requests without an answer. `local` is a fault of the own machine.',
          width: 12,
          unit: 'cps',
          queries: [
            {
              expr: `sum by (class) (rate(curfew_outbound_failures_total{${PROCESS}}${RATE}))`,
              legend: '{{class}}',
            },
          ],
        }),
      ],
    },
    {
      title: 'Event log',
      panels: [
        chart({
          title: 'Oldest record',
          description: 'Records that no worker has planned.',
          width: 8,
          unit: 's',
          queries: [{ expr: `max by (lane) (curfew_event_log_oldest_seconds{${JOB}})`, legend: '{{lane}}' }],
        }),
        chart({
          title: 'Partitions without a worker',
          description: 'With Kafka only. Partitions change hands within seconds.',
          width: 8,
          thresholds: badFrom(1),
          queries: [
            {
              expr: `max by (lane) (curfew_event_log_unassigned_partitions{${JOB}})`,
              legend: '{{lane}}',
            },
          ],
        }),
        chart({
          title: 'Lost records, rewinds and faults of topics',
          description: 'With Kafka only. `curfew doctor` names each faulty setting.',
          width: 8,
          thresholds: badFrom(1),
          queries: [
            {
              expr: `sum by (lane) (curfew_event_log_records_removed_total{${JOB}})`,
              legend: 'removed unread {{lane}}',
            },
            { expr: `sum by (lane) (curfew_event_log_rewinds_total{${JOB}})`, legend: 'rewinds {{lane}}' },
            { expr: `max by (topic) (curfew_event_log_topic_faults{${JOB}})`, legend: 'faults of {{topic}}' },
          ],
        }),
        chart({
          title: 'Sessions',
          description:
            'Starts and ends that the session index took in, and sessions that ended by themselves.',
          width: 12,
          unit: 'cps',
          queries: [
            {
              expr: `sum by (kind) (rate(curfew_session_changes_applied_total{${JOB}}${RATE}))`,
              legend: '{{kind}}',
            },
            { expr: `sum(rate(curfew_sessions_expired_total{${JOB}}${RATE}))`, legend: 'expired' },
          ],
        }),
        chart({
          title: 'Quarantine',
          description: 'Records that wait in quarantine.',
          width: 12,
          thresholds: badFrom(1),
          queries: [{ expr: `max by (lane) (curfew_quarantined_records{${JOB}})`, legend: '{{lane}}' }],
        }),
      ],
    },
    {
      title: 'Bookkeeper',
      panels: [
        chart({
          title: 'Projection lag',
          description: 'The age of the oldest journal entry that a projector has not taken in.',
          width: 8,
          unit: 's',
          queries: [
            {
              expr: `max by (projector) (curfew_projection_lag_seconds{${JOB}})`,
              legend: '{{projector}}',
            },
          ],
        }),
        chart({
          title: 'Left journal entries',
          description:
            'Entries that a projector could not take in. The log of the bookkeeper names the reason.',
          width: 8,
          thresholds: badFrom(1),
          queries: [
            { expr: `max by (projector) (curfew_journal_left_entries{${JOB}})`, legend: '{{projector}}' },
          ],
        }),
        chart({
          title: 'Receipts and replays',
          description: 'Issued receipts, replayed dead letters and logouts of issuer logouts.',
          width: 8,
          unit: 'cps',
          queries: [
            { expr: `sum(rate(curfew_receipts_issued_total{${JOB}}${RATE}))`, legend: 'receipts' },
            { expr: `sum(rate(curfew_deliveries_replayed_total{${JOB}}${RATE}))`, legend: 'replayed' },
            {
              expr: `sum(rate(curfew_issuer_logout_subjects_total{${JOB}}${RATE}))`,
              legend: 'issuer logouts',
            },
          ],
        }),
        chart({
          title: 'Webhooks',
          description: 'Requests to webhooks, by next state.',
          width: 8,
          unit: 'cps',
          queries: [
            {
              expr: `sum by (state) (rate(curfew_webhook_attempts_total{${JOB}}${RATE}))`,
              legend: '{{state}}',
            },
          ],
        }),
        chart({
          title: 'Confirmations',
          description: 'Requests that confirm a logout to the client that started it.',
          width: 8,
          unit: 'cps',
          queries: [
            {
              expr: `sum by (state) (rate(curfew_confirmation_attempts_total{${JOB}}${RATE}))`,
              legend: '{{state}}',
            },
          ],
        }),
        chart({
          title: 'Sessions of the quota',
          description: 'The 20 issuers that are closest to their quota, from one half on.',
          width: 8,
          unit: 'percentunit',
          thresholds: worseFrom(0.8, 1),
          queries: [{ expr: `max by (issuer) (curfew_session_quota_ratio{${JOB}})`, legend: '{{issuer}}' }],
        }),
      ],
    },
    {
      title: 'HTTP',
      panels: [
        chart({
          title: 'Requests by status',
          description: 'Answers of all services.',
          width: 8,
          unit: 'reqps',
          stacked: true,
          queries: [
            {
              expr: `sum by (status) (rate(curfew_http_request_duration_seconds_count{${PROCESS}}${RATE}))`,
              legend: '{{status}}',
            },
          ],
        }),
        chart({
          title: 'Duration of requests, p99',
          description: 'The ten slowest routes. Requests that `wait` are slow on purpose.',
          width: 8,
          unit: 's',
          queries: [
            {
              expr: `topk(10, ${quantile(0.99, 'curfew_http_request_duration_seconds', ', method, route')})`,
              legend: '{{method}} {{route}}',
            },
          ],
        }),
        chart({
          title: 'Waiting requests',
          description: 'Requests that `wait` for the outcome of a logout.',
          width: 8,
          queries: [{ expr: `curfew_waiters{${PROCESS}}`, legend: '{{instance}}' }],
        }),
      ],
    },
    {
      title: 'Node.js',
      panels: [
        chart({
          title: 'Processor time',
          description: 'Of one core. Node.js runs the code of a process on one core.',
          width: 8,
          unit: 'percentunit',
          queries: [
            {
              expr: `sum by (instance) (rate(process_cpu_seconds_total{${PROCESS}}${RATE}))`,
              legend: '{{instance}}',
            },
          ],
        }),
        chart({
          title: 'Memory',
          description: 'Resident memory. It does not grow with the number of waiting deliveries.',
          width: 8,
          unit: 'bytes',
          queries: [
            { expr: `process_resident_memory_bytes{${PROCESS}}`, legend: '{{instance}}' },
            { expr: `nodejs_heap_size_used_bytes{${PROCESS}}`, legend: '{{instance}} heap' },
          ],
        }),
        chart({
          title: 'Event loop lag, p99',
          description: 'How late timers run. A high lag delays every attempt of the process.',
          width: 8,
          unit: 's',
          thresholds: worseFrom(0.1, 0.5),
          queries: [{ expr: `nodejs_eventloop_lag_p99_seconds{${PROCESS}}`, legend: '{{instance}}' }],
        }),
        chart({
          title: 'Garbage collection',
          description: 'The share of time that goes into garbage collection.',
          width: 12,
          unit: 'percentunit',
          queries: [
            {
              expr: `sum by (instance) (rate(nodejs_gc_duration_seconds_sum{${PROCESS}}${RATE}))`,
              legend: '{{instance}}',
            },
          ],
        }),
        chart({
          title: 'Open file descriptors',
          description: 'On Linux. Above the limit of the process, every new connection fails.',
          width: 12,
          queries: [
            { expr: `process_open_fds{${PROCESS}}`, legend: '{{instance}}' },
            { expr: `process_max_fds{${PROCESS}}`, legend: '{{instance}} limit' },
          ],
        }),
      ],
    },
  ],
}
