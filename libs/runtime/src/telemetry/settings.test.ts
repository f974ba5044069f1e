import { describe, expect, test } from 'vitest'
import { ConfigurationError } from '../environment.ts'
import { readTelemetry } from './settings.ts'

// Goal: traces are exported where the variables of the specification ask for them, and a wrong variable stops the start.

const COLLECTOR = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' }

function faultsOf(env: Readonly<Record<string, string>>): readonly string[] {
  try {
    readTelemetry(env)
  } catch (error) {
    if (error instanceof ConfigurationError) return error.faults
    throw error
  }
  return []
}

test.each([
  [{}, false],
  [COLLECTOR, true],
  [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://collector/v1/traces' }, true],
  [{ OTEL_TRACES_EXPORTER: 'otlp' }, true],
  [{ OTEL_TRACES_EXPORTER: 'console' }, true],
  [{ ...COLLECTOR, OTEL_TRACES_EXPORTER: 'none' }, false],
  [{ ...COLLECTOR, OTEL_SDK_DISABLED: 'true' }, false],
  [{ ...COLLECTOR, OTEL_SDK_DISABLED: 'TRUE' }, false],
  [{ ...COLLECTOR, OTEL_SDK_DISABLED: 'false' }, true],
  [{ ...COLLECTOR, OTEL_TRACES_EXPORTER: '' }, true],
  [{ OTEL_TRACES_SAMPLER: 'always_on', OTEL_SERVICE_NAME: 'curfew' }, false],
] as const)('%o asks for traces: %s', (env, enabled) => {
  expect(readTelemetry(env).enabled).toBe(enabled)
})

test.each([
  [undefined, true],
  ['parentbased_always_on', true],
  ['parentbased_traceidratio', true],
  ['parentbased_always_off', true],
  ['always_on', false],
  ['always_off', false],
  ['traceidratio', false],
])('with the sampler %s the parent decides: %s', (sampler, decides) => {
  const env = { ...COLLECTOR, ...(sampler !== undefined && { OTEL_TRACES_SAMPLER: sampler }) }
  expect(readTelemetry(env).parentDecides).toBe(decides)
})

describe('a wrong variable is a fault', () => {
  test.each([
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4318', 'must be a URL'],
    ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'ftp://collector', 'must be a URL'],
    ['OTEL_EXPORTER_OTLP_PROTOCOL', 'http', 'must be one of grpc, http/protobuf, http/json'],
    ['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL', 'json', 'must be one of grpc, http/protobuf, http/json'],
    ['OTEL_TRACES_EXPORTER', 'jaeger', 'is not one of otlp, console, none'],
    ['OTEL_TRACES_SAMPLER', 'sometimes', 'must be one of always_on'],
    ['OTEL_TRACES_SAMPLER_ARG', '1.5', 'must be a number from 0 to 1'],
    ['OTEL_TRACES_SAMPLER_ARG', '10%', 'must be a number from 0 to 1'],
    ['OTEL_TRACES_SAMPLER_ARG', '-0.1', 'must be a number from 0 to 1'],
    ['OTEL_BSP_SCHEDULE_DELAY', '5s', 'must be a whole number'],
    ['OTEL_BSP_MAX_QUEUE_SIZE', '-1', 'must be a whole number'],
    ['OTEL_EXPORTER_OTLP_TIMEOUT', '1.5', 'must be a whole number'],
  ])('%s=%s', (name, value, fault) => {
    expect(faultsOf({ [name]: value })).toEqual([expect.stringContaining(fault)])
    expect(faultsOf({ [name]: value })[0]).toContain(name)
  })

  test('and all of them are reported together', () => {
    expect(faultsOf({ OTEL_TRACES_SAMPLER: 'sometimes', OTEL_TRACES_SAMPLER_ARG: 'x' })).toHaveLength(2)
  })
})

test.each(['0', '1', '0.1', '.5', '1.0'])('a ratio of %s is taken', (ratio) => {
  expect(faultsOf({ OTEL_TRACES_SAMPLER_ARG: ratio })).toEqual([])
})
