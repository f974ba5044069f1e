import {
  type Dashboard,
  DashboardCursorSync,
  type Panel,
  type RowPanel,
  type VariableModel,
  VariableRefresh,
  VariableSort,
} from '@grafana/schema'
import { DATASOURCE, JOB, type PanelDraft } from './look.ts'

/** Panels under a title. */
export interface Row {
  readonly title: string
  /** They fill lines of 24 columns from the left. */
  readonly panels: readonly PanelDraft[]
}

export interface DashboardDraft {
  /** The last part of its uid and of its file's name. */
  readonly name: string
  readonly title: string
  readonly description: string
  /** Variables besides the data source and the job. */
  readonly variables?: readonly VariableModel[]
  readonly rows: readonly Row[]
}

const COLUMNS = 24
/** Grafana 10.0. Later releases migrate it. */
const SCHEMA_VERSION = 38
const TAG = 'curfew'

/** The uid of a dashboard, which is in its address. */
export const uidOf = (name: string) => `curfew-${name}`

/** A variable with the values that a label has. */
export function labelVariable({
  name,
  label,
  metric,
  description,
  all,
}: {
  /** Of the variable, and of the label. */
  readonly name: string
  /** The word beside its list. */
  readonly label: string
  /** Selects the series with the label. */
  readonly metric: string
  readonly description: string
  /** Whether several values, or all, can be chosen. */
  readonly all: boolean
}): VariableModel {
  const query = `label_values(${metric}, ${name})`
  return {
    type: 'query',
    name,
    label,
    description,
    datasource: DATASOURCE,
    query: { query, refId: name },
    refresh: VariableRefresh.onTimeRangeChanged,
    sort: VariableSort.alphabeticalAsc,
    multi: all,
    includeAll: all,
    ...(all && { current: { text: ['All'], value: ['$__all'] } }),
  }
}

const VARIABLES: readonly VariableModel[] = [
  {
    type: 'datasource',
    name: 'datasource',
    label: 'data source',
    description: 'The Prometheus that scrapes Curfew.',
    query: 'prometheus',
  },
  labelVariable({
    ...{ name: 'job', label: 'job', metric: 'curfew_build_info', all: true },
    description: 'The jobs of one deployment of Curfew.',
  }),
]

/** The dashboard as Grafana loads it. */
export function createDashboard({
  name,
  title,
  description,
  variables = [],
  rows,
}: DashboardDraft): Dashboard {
  return {
    uid: uidOf(name),
    title,
    description,
    tags: [TAG],
    schemaVersion: SCHEMA_VERSION,
    editable: true,
    graphTooltip: DashboardCursorSync.Crosshair,
    time: { from: 'now-3h', to: 'now' },
    refresh: '30s',
    timezone: 'browser',
    links: [
      {
        ...{ type: 'dashboards', title: 'Curfew', tags: [TAG], asDropdown: false, icon: '', tooltip: '' },
        ...{ keepTime: true, includeVars: true, targetBlank: false },
      },
    ],
    templating: { list: [...VARIABLES, ...variables] },
    panels: placed(rows),
  }
}

/** Gives each panel an id and its place. */
function placed(rows: readonly Row[]): (Panel | RowPanel)[] {
  const panels: (Panel | RowPanel)[] = []
  let y = 0
  for (const { title, panels: drafts } of rows) {
    const gridPos = { x: 0, y: y++, w: COLUMNS, h: 1 }
    panels.push({ type: 'row', id: panels.length + 1, title, collapsed: false, gridPos, panels: [] })
    let x = 0
    let lineHeight = 0
    for (const { width, height, panel } of drafts) {
      if (x + width > COLUMNS) {
        y += lineHeight
        x = 0
        lineHeight = 0
      }
      panels.push({ ...panel, id: panels.length + 1, gridPos: { x, y, w: width, h: height } })
      x += width
      lineHeight = Math.max(lineHeight, height)
    }
    y += lineHeight
  }
  return panels
}

/** The number, or 0 where Curfew is scraped and exports none. Without Curfew there is no value, instead of a 0 that looks good. */
export const orZero = (expr: string) => `${expr} or 0 * max(curfew_bookkeepers_alive{${JOB}})`

/** The address of the dashboard of one relying party, from a row of a table. */
export const RELYING_PARTY_LINK = {
  label: 'client_id',
  title: 'Show this relying party',
  url: [
    `/d/${uidOf('relying-party')}?\${datasource:queryparam}&\${job:queryparam}&\${__url_time_range}`,
    `var-issuer=\${__data.fields.issuer:percentencode}`,
    `var-client_id=\${__data.fields.client_id:percentencode}`,
  ].join('&'),
} as const
