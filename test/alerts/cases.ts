// Series of metrics by which each alert fires or stays quiet, in the notation of promtool: `5x10` is 5 now and in the ten minutes
// after, `0+60x10` grows by 60 a minute, `_x10` is absent.

/** The scraped series of one case, with one value a minute. */
type Series = Readonly<Record<string, string>>

interface Fires {
  readonly series: Series
  /** Minutes after the first scrape. */
  readonly atMinutes: number
  /** The labels of each firing alert, besides its severity, with its summary. */
  readonly alerts: readonly { readonly labels: Series; readonly summary: string }[]
}

interface StaysQuiet {
  readonly because: string
  readonly series: Series
  readonly atMinutes: number
}

export interface AlertCases {
  /** How often the rule is evaluated, in minutes. Default 1: a day of minutes takes seconds. */
  readonly everyMinutes?: number
  readonly fires: readonly Fires[]
  readonly staysQuiet: readonly StaysQuiet[]
}

const DAY = 1_440
const RP = { issuer: 'main', client_id: 'crm' }
const of = 'issuer="main",client_id="crm"'

/** A case in which one alert with these labels fires. */
function once(series: Series, atMinutes: number, labels: Series, summary: string): Fires {
  return { series, atMinutes, alerts: [{ labels, summary }] }
}

function burn(windows: readonly [string, string], values: readonly [string, string], broken: string): Series {
  const [long, short] = windows
  return {
    [`curfew_sla_burn_rate{issuer="main",window="${long}"}`]: values[0],
    [`curfew_sla_burn_rate{issuer="main",window="${short}"}`]: values[1],
    [`curfew_sla_broken{issuer="main",window="${long}"}`]: broken,
  }
}

/** A relying party with scheduled audits. Times in seconds. */
function audited(age: string, schedule: string): Series {
  return {
    [`curfew_audit_age_seconds{${of}}`]: `${age}x100`,
    [`curfew_audit_schedule_seconds{${of}}`]: `${schedule}x100`,
  }
}

/** The cases of an alert whose gauge must stay at or below a limit. */
function above(
  metric: string,
  [over, within]: readonly [string, string],
  minutes: number,
  alert: { readonly labels?: Series; readonly summary: string },
): AlertCases {
  return {
    fires: [once({ [metric]: `${over}x100` }, minutes, alert.labels ?? {}, alert.summary)],
    staysQuiet: [
      { because: 'the value is within the limit', series: { [metric]: `${within}x100` }, atMinutes: 60 },
      {
        because: 'the value was over the limit for too short a time',
        series: { [metric]: `${over}x${minutes - 1} ${within}x10` },
        atMinutes: minutes,
      },
    ],
  }
}

/** The cases of an alert that fires when a gauge is above its value of a day ago. @param minutes `for` of the alert. */
function rises(
  metric: string,
  minutes: number,
  { labels, summary }: { readonly labels: Series; readonly summary: string },
): AlertCases {
  return {
    everyMinutes: 5,
    fires: [
      // The series begins with its first value.
      once({ [metric]: `_x10 3x${minutes + 10}` }, 15 + minutes, labels, summary),
      once({ [metric]: `2x${DAY} 3x${minutes + 10}` }, DAY + 5 + minutes, labels, summary),
    ],
    staysQuiet: [
      {
        because: 'nothing came within the last day',
        series: { [metric]: `_x10 3x${DAY + 200}` },
        atMinutes: DAY + 150,
      },
      {
        because: 'they are fewer than a day ago',
        series: { [metric]: `5x${DAY} 3x200` },
        atMinutes: DAY + 150,
      },
    ],
  }
}

function alive(what: string, metric: string, minutes: number): AlertCases {
  const summary = `No ${what} is alive, as far as any process can tell`
  return {
    fires: [
      // The last worker and the last bookkeeper are gone. A console still says so.
      once({ [`${metric}{job="console"}`]: '2x5 0x30' }, 6 + minutes, {}, summary),
      // Only ingest is left, which does not export the number.
      once(
        { [`${metric}{job="bookkeeper"}`]: '2x5 stale', 'curfew_waiters{job="ingest"}': '0x30' },
        6 + minutes,
        {},
        summary,
      ),
    ],
    staysQuiet: [
      {
        because: 'one of two is left',
        series: { [`${metric}{job="console"}`]: '2x5 1x30' },
        atMinutes: 20,
      },
      {
        because: 'one process has not seen it yet',
        series: { [`${metric}{job="console"}`]: '0x30', [`${metric}{job="bookkeeper"}`]: '1x30' },
        atMinutes: 20,
      },
      {
        because: 'it was restarted',
        series: { [`${metric}{job="console"}`]: '1x5 0x1 1x30' },
        atMinutes: 8,
      },
    ],
  }
}

function appears(counter: string, window: number, labels: Series, summary: string): AlertCases {
  return {
    fires: [
      once({ [counter]: `_x${window + 5} 1x5` }, window + 7, labels, summary),
      once({ [counter]: `3x${window + 5} 4x5` }, window + 8, labels, summary),
    ],
    staysQuiet: [
      {
        because: 'it was counted long ago',
        series: { [counter]: `_x5 3x${3 * window}` },
        atMinutes: 2 * window + 10,
      },
    ],
  }
}

export const CASES: Readonly<Record<string, AlertCases>> = {
  CurfewSlaBurnsFast: {
    fires: [
      once(
        burn(['1h', '5m'], ['20x10', '900x10'], '10x10'),
        1,
        { issuer: 'main' },
        'The error budget of main is spent 20 times as fast as it may last',
      ),
    ],
    staysQuiet: [
      {
        because: 'it has stopped burning',
        series: burn(['1h', '5m'], ['20x10', '0x10'], '50x10'),
        atMinutes: 5,
      },
      {
        because: 'the budget lasts for most of a day',
        series: burn(['1h', '5m'], ['14x10', '900x10'], '50x10'),
        atMinutes: 5,
      },
      {
        because: 'few logouts are broken, in a quiet hour',
        series: burn(['1h', '5m'], ['200x10', '1000x10'], '1x10'),
        atMinutes: 5,
      },
    ],
  },
  CurfewSlaBurnsSlowly: {
    fires: [
      once(
        burn(['6h', '30m'], ['7x10', '8x10'], '40x10'),
        1,
        { issuer: 'main' },
        'The error budget of main is spent 7 times as fast as it may last, for hours',
      ),
    ],
    staysQuiet: [
      {
        because: 'it has stopped burning',
        series: burn(['6h', '30m'], ['7x10', '0x10'], '40x10'),
        atMinutes: 5,
      },
      {
        because: 'it burns slower',
        series: burn(['6h', '30m'], ['5x10', '100x10'], '40x10'),
        atMinutes: 5,
      },
      {
        because: 'few logouts are broken',
        series: burn(['6h', '30m'], ['7x10', '8x10'], '9x10'),
        atMinutes: 5,
      },
    ],
  },
  CurfewRelaySpoolWaits: above('curfew_relay_spool_oldest_seconds', ['121', '119'], 1, {
    summary: 'Logout tokens have waited 2m 1s on the disk of a service',
  }),
  CurfewRelayRefuses: {
    ...appears(
      'curfew_relay_tokens_total{result="unavailable",instance="a"}',
      5,
      {},
      'The relay has answered logout tokens with 503',
    ),
  },
  CurfewEventLogLate: {
    fires: above('curfew_event_log_oldest_seconds{lane="interactive"}', ['61', '59'], 2, {
      labels: { lane: 'interactive' },
      summary: 'The oldest record of the lane interactive has waited 1m 1s',
    }).fires,
    staysQuiet: [
      ...above('curfew_event_log_oldest_seconds{lane="sessions"}', ['61', '59'], 2, { summary: '' })
        .staysQuiet,
      {
        because: 'the bulk lane may be late',
        series: { 'curfew_event_log_oldest_seconds{lane="bulk"}': '7200x10' },
        atMinutes: 9,
      },
    ],
  },
  CurfewBulkLaneLate: above('curfew_event_log_oldest_seconds{lane="bulk"}', ['21601', '21599'], 15, {
    summary: 'The oldest record of the bulk lane has waited 6h 0m 1s',
  }),
  CurfewEventLogUnseen: {
    fires: [
      once(
        { 'curfew_event_log_oldest_seconds{lane="interactive"}': '0x3 stale' },
        15,
        { lane: 'interactive' },
        "The age of the event log's oldest record is unknown",
      ),
    ],
    staysQuiet: [
      {
        because: 'it was unseen for a moment',
        series: { 'curfew_event_log_oldest_seconds{lane="interactive"}': '0x3 stale _x5 0x10' },
        atMinutes: 15,
      },
    ],
  },
  CurfewPartitionsWithoutWorker: above(
    'curfew_event_log_unassigned_partitions{lane="interactive"}',
    ['3', '0'],
    3,
    {
      labels: { lane: 'interactive' },
      summary: '3 partitions of the lane interactive have no delivery worker',
    },
  ),
  CurfewTopicLosesRecords: above('curfew_event_log_topic_faults{topic="logout.events"}', ['1', '0'], 5, {
    labels: { topic: 'logout.events' },
    summary: 'The topic logout.events is set so that records can be lost or refused',
  }),
  CurfewRecordsRemovedUnread: appears(
    'curfew_event_log_records_removed_total{lane="bulk"}',
    60,
    { lane: 'bulk' },
    'Kafka removed records of the lane bulk before a worker had read them',
  ),
  CurfewQuarantinedLogouts: {
    fires: above('curfew_quarantined_records{lane="interactive"}', ['2', '0'], 5, {
      labels: { lane: 'interactive' },
      summary: '2 accepted records of the lane interactive wait in quarantine',
    }).fires,
    staysQuiet: [
      {
        because: 'a person decided within five minutes',
        series: { 'curfew_quarantined_records{lane="interactive"}': '2x3 0x10' },
        atMinutes: 8,
      },
      {
        because: 'a record of a session is no logout',
        series: { 'curfew_quarantined_records{lane="sessions"}': '2x10' },
        atMinutes: 9,
      },
    ],
  },
  CurfewNoWorker: alive('delivery worker', 'curfew_workers_alive', 2),
  CurfewNoBookkeeper: alive('bookkeeper', 'curfew_bookkeepers_alive', 5),
  CurfewLeaseTooOld: above('curfew_oldest_lease_seconds', ['301', '299'], 1, {
    summary: 'A lease on deliveries is 5m 1s old',
  }),
  CurfewProjectionLate: above('curfew_projection_lag_seconds{projector="sla"}', ['121', '119'], 5, {
    labels: { projector: 'sla' },
    summary: 'The projection sla is 2m 1s behind the ledger',
  }),
  CurfewReceiptsLate: above('curfew_checkpoint_age_seconds', ['301', '299'], 5, {
    summary: 'A settled logout has waited 5m 1s for its receipt',
  }),
  CurfewClockOff: above('curfew_clock_offset_seconds{instance="worker-1:8483"}', ['-6', '-4'], 5, {
    labels: { instance: 'worker-1:8483' },
    summary: 'The clock of worker-1:8483 differs by 6s from that of PostgreSQL',
  }),
  CurfewEndpointUnavailable: {
    fires: above(`curfew_endpoint_breakers_open{${of},channel="backchannel"}`, ['2', '0'], 5, {
      labels: { ...RP, channel: 'backchannel' },
      summary: 'crm of main does not answer (backchannel)',
    }).fires,
    staysQuiet: [
      {
        because: 'the relying party answers again',
        series: { [`curfew_endpoint_breakers_open{${of},channel="backchannel"}`]: '1x20 stale' },
        atMinutes: 22,
      },
      {
        because: 'it was unavailable for a moment',
        series: { [`curfew_endpoint_breakers_open{${of},channel="backchannel"}`]: '1x3 stale' },
        atMinutes: 6,
      },
    ],
  },
  CurfewDeliveriesLate: {
    fires: above(`curfew_delivery_oldest_pending_seconds{${of}}`, ['901', '899'], 5, {
      labels: RP,
      summary: 'A logout has waited 15m 1s for crm of main',
    }).fires,
    staysQuiet: [
      ...above(`curfew_delivery_oldest_pending_seconds{${of}}`, ['901', '899'], 5, { summary: '' })
        .staysQuiet,
      {
        because: 'the alert of its open breaker says so',
        series: {
          [`curfew_delivery_oldest_pending_seconds{${of}}`]: '7200x20',
          [`curfew_endpoint_breakers_open{${of},channel="backchannel"}`]: '1x20',
        },
        atMinutes: 15,
      },
    ],
  },
  CurfewDeadLetters: rises(`curfew_dead_letters{${of}}`, 5, {
    labels: RP,
    summary: 'crm of main has 3 dead letters, more than a day ago',
  }),
  CurfewSessionsOrphaned: rises('curfew_sessions_orphaned{issuer="main"}', 60, {
    labels: { issuer: 'main' },
    summary: '3 sessions of main ought to be over and are not, more than a day ago',
  }),
  CurfewSessionsOverlong: rises(`curfew_sessions_overlong{${of}}`, 60, {
    labels: RP,
    summary: '3 sessions at crm of main have lasted far longer than is normal there',
  }),
  CurfewAuditFailed: above(`curfew_audit_passed{${of}}`, ['0', '1'], 1, {
    labels: RP,
    summary: 'A logout did not end the audited session at crm of main',
  }),
  CurfewAuditStale: {
    fires: [
      once(audited('172860', '3600'), 15, RP, 'The last conclusive audit of crm of main was 2d 0h 1m 0s ago'),
      once(
        audited('1512060', '604800'),
        15,
        RP,
        'The last conclusive audit of crm of main was 17d 12h 1m 0s ago',
      ),
    ],
    staysQuiet: [
      { because: 'the age is within two days', series: audited('172740', '300'), atMinutes: 60 },
      { because: 'audits are weekly', series: audited('604800', '604800'), atMinutes: 60 },
      {
        because: 'the value was over the limit for too short a time',
        series: { ...audited('', '3600'), [`curfew_audit_age_seconds{${of}}`]: '172860x14 0x10' },
        atMinutes: 15,
      },
    ],
  },
}

/** A service at work, without the metrics that exist only over Kafka. */
export const HEALTHY: Series = {
  'curfew_workers_alive{job="curfew"}': '1x200',
  'curfew_bookkeepers_alive{job="curfew"}': '1x200',
  'curfew_event_log_oldest_seconds{lane="interactive"}': '0x200',
  'curfew_event_log_oldest_seconds{lane="bulk"}': '0x200',
  'curfew_event_log_oldest_seconds{lane="sessions"}': '0x200',
  'curfew_oldest_lease_seconds{job="curfew"}': '2x200',
  'curfew_clock_offset_seconds{instance="worker-1:8483"}': '0.004x200',
  'curfew_checkpoint_age_seconds{job="curfew"}': '0x200',
  'curfew_projection_lag_seconds{projector="sla"}': '0.2x200',
  ...burn(['1h', '5m'], ['0.1x200', '0x200'], '1x200'),
  ...burn(['6h', '30m'], ['0.1x200', '0x200'], '4x200'),
}
