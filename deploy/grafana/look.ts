import {
  FieldColorModeId,
  type FieldConfigSource,
  type Panel,
  type Threshold,
  ThresholdsMode,
} from '@grafana/schema'

// The parts that all panels share.

/** The data source that the reader of a dashboard chooses. */
export const DATASOURCE = { type: 'prometheus', uid: `\${datasource}` }
/** Selects the processes that the reader of a dashboard chooses. */
export const JOB = 'job=~"$job"'

/** A panel before the dashboard gives it an id and a place. */
export interface PanelDraft {
  /** Columns of the 24 that a dashboard has. */
  readonly width: number
  readonly height: number
  readonly panel: Panel
}

export type Unit =
  | 'short'
  | 's'
  | 'bytes'
  | 'percentunit'
  | 'percent'
  /** Counts in a second. */
  | 'cps'
  | 'reqps'

export interface About {
  readonly title: string
  /** The meaning of the values, and the remedy of a bad one. */
  readonly description: string
  readonly width: number
  /** Default: a plain number. */
  readonly unit?: Unit
  readonly decimals?: number
  /** Default: every value is good. */
  readonly thresholds?: readonly Threshold[]
}

const GOOD = 'green'
const WARN = 'orange'
const BAD = 'red'

/** Good below `from`. */
export const badFrom = (from: number): readonly Threshold[] => [
  { color: GOOD, value: null },
  { color: BAD, value: from },
]
/** Good below `warn`. */
export const worseFrom = (warn: number, bad: number): readonly Threshold[] => [
  { color: GOOD, value: null },
  { color: WARN, value: warn },
  { color: BAD, value: bad },
]
/** Bad below `from`. */
export const goodFrom = (from: number): readonly Threshold[] => [
  { color: BAD, value: null },
  { color: GOOD, value: from },
]

export function fieldConfig(
  { unit = 'short', decimals, thresholds }: About,
  custom: Record<string, unknown>,
): FieldConfigSource {
  return {
    defaults: {
      unit,
      ...(decimals !== undefined && { decimals }),
      color: {
        mode: thresholds === undefined ? FieldColorModeId.PaletteClassic : FieldColorModeId.Thresholds,
      },
      thresholds: {
        mode: ThresholdsMode.Absolute,
        steps: [...(thresholds ?? [{ color: GOOD, value: null }])],
      },
      custom,
    },
    overrides: [],
  }
}

export const refId = (index: number) => String.fromCharCode('A'.charCodeAt(0) + index)
