import { type DataTransformerConfig, FieldColorModeId, type Threshold, ThresholdsMode } from '@grafana/schema'
import type { Options } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen'
import { type About, DATASOURCE, fieldConfig, type PanelDraft, refId, type Unit } from './look.ts'

const HEIGHT = 8

interface Column {
  readonly name: string
  /** Its series have the labels that are the rows. */
  readonly expr: string
  readonly unit?: Unit
  readonly thresholds?: readonly Threshold[]
}

/** A row for each combination of labels, the worst by `sortBy` first. */
export function table({
  labels,
  columns,
  sortBy,
  link,
  ...about
}: About & {
  readonly labels: readonly string[]
  readonly columns: readonly Column[]
  readonly sortBy: string
  /** Leads from a value of `label` to another dashboard. */
  readonly link?: { readonly label: string; readonly title: string; readonly url: string }
}): PanelDraft {
  const named = (index: number) => `Value #${refId(index)}`
  const transformations: DataTransformerConfig[] = [
    { id: 'merge', options: {} },
    {
      id: 'organize',
      options: {
        excludeByName: { Time: true },
        indexByName: Object.fromEntries(
          [...labels, ...columns.map((_, index) => named(index))].map((name, index) => [name, index]),
        ),
        renameByName: Object.fromEntries(columns.map(({ name }, index) => [named(index), name])),
      },
    },
  ]
  const options: Options = {
    frameIndex: 0,
    showHeader: true,
    sortBy: [{ displayName: sortBy, desc: true }],
  }
  const config = fieldConfig(about, {})
  return {
    width: about.width,
    height: HEIGHT,
    panel: {
      type: 'table',
      title: about.title,
      description: about.description,
      datasource: DATASOURCE,
      targets: columns.map(({ expr }, index) => ({
        ...{
          refId: refId(index),
          datasource: DATASOURCE,
          expr,
          format: 'table',
          instant: true,
          range: false,
        },
      })),
      transformations,
      fieldConfig: {
        ...config,
        overrides: [
          ...columns.map(({ name, unit = 'short', thresholds }) => ({
            matcher: { id: 'byName', options: name },
            properties: [
              { id: 'unit', value: unit },
              ...(thresholds === undefined
                ? []
                : [
                    { id: 'thresholds', value: { mode: ThresholdsMode.Absolute, steps: [...thresholds] } },
                    { id: 'custom.cellOptions', value: { type: 'color-text' } },
                    { id: 'color', value: { mode: FieldColorModeId.Thresholds } },
                  ]),
            ],
          })),
          ...(link === undefined
            ? []
            : [
                {
                  matcher: { id: 'byName', options: link.label },
                  properties: [{ id: 'links', value: [{ title: link.title, url: link.url }] }],
                },
              ]),
        ],
      },
      options: { ...options },
    },
  }
}
