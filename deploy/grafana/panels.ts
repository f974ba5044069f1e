import {
  AxisPlacement,
  BigValueColorMode,
  BigValueGraphMode,
  FieldColorModeId,
  GraphDrawStyle,
  GraphThresholdsStyleMode,
  LegendDisplayMode,
  SortOrder,
  StackingMode,
  TooltipDisplayMode,
  VisibilityMode,
} from '@grafana/schema'
import type { Options as StatOptions } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen'
import {
  TextMode,
  type Options as TextOptions,
} from '@grafana/schema/dist/esm/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen'
import type {
  FieldConfig as ChartField,
  Options as ChartOptions,
} from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen'

import { type About, DATASOURCE, fieldConfig, type PanelDraft, refId } from './look.ts'

// The kinds of panels except tables, with the look that all dashboards share. Grafana's published types check them.

interface Query {
  readonly expr: string
  /** Names each series by its labels: `{{issuer}}`. */
  readonly legend: string
}

const STAT_HEIGHT = 4
const CHART_HEIGHT = 8
/** The columns of a legend: more hide the chart. */
const LEGEND_CALCS = ['lastNotNull', 'max']

/** The present value, in large digits. */
export function stat({
  expr,
  legend = '',
  ...about
}: About & Partial<Query> & Pick<Query, 'expr'>): PanelDraft {
  const options: Partial<StatOptions> = {
    colorMode: about.thresholds === undefined ? BigValueColorMode.None : BigValueColorMode.Background,
    graphMode: BigValueGraphMode.None,
    reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
  }
  return {
    width: about.width,
    height: STAT_HEIGHT,
    panel: {
      type: 'stat',
      title: about.title,
      description: about.description,
      datasource: DATASOURCE,
      targets: [
        { refId: 'A', datasource: DATASOURCE, expr, legendFormat: legend, instant: true, range: false },
      ],
      fieldConfig: fieldConfig(about, {}),
      options,
    },
  }
}

/** Values over time. */
export function chart({
  queries,
  stacked = false,
  ...about
}: About & { readonly queries: readonly Query[]; readonly stacked?: boolean }): PanelDraft {
  const custom: ChartField = {
    drawStyle: GraphDrawStyle.Line,
    lineWidth: 1,
    fillOpacity: stacked ? 40 : 10,
    showPoints: VisibilityMode.Never,
    axisPlacement: AxisPlacement.Auto,
    axisSoftMin: 0,
    stacking: { mode: stacked ? StackingMode.Normal : StackingMode.None, group: 'A' },
    thresholdsStyle: {
      mode: about.thresholds === undefined ? GraphThresholdsStyleMode.Off : GraphThresholdsStyleMode.Dashed,
    },
  }
  const config = fieldConfig(about, { ...custom })
  const options: ChartOptions = {
    legend: {
      displayMode: LegendDisplayMode.Table,
      placement: 'bottom',
      showLegend: true,
      calcs: LEGEND_CALCS,
    },
    tooltip: { mode: TooltipDisplayMode.Multi, sort: SortOrder.Descending },
  }
  return {
    width: about.width,
    height: CHART_HEIGHT,
    panel: {
      type: 'timeseries',
      title: about.title,
      description: about.description,
      datasource: DATASOURCE,
      targets: queries.map(({ expr, legend }, index) => ({
        ...{ refId: refId(index), datasource: DATASOURCE, expr, legendFormat: legend, range: true },
      })),
      // Lines differ by color, whatever the thresholds are.
      fieldConfig: {
        ...config,
        defaults: { ...config.defaults, color: { mode: FieldColorModeId.PaletteClassic } },
      },
      options: { ...options },
    },
  }
}

/** Markdown. */
export function text({
  title,
  width,
  height,
  content,
}: {
  readonly title: string
  readonly width: number
  readonly height: number
  readonly content: string
}): PanelDraft {
  const options: TextOptions = { mode: TextMode.Markdown, content }
  return { width, height, panel: { type: 'text', title, options: { ...options } } }
}
