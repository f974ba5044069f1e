import { expect, test } from 'vitest'
import {
  ConfigurationError,
  type EnvironmentReader,
  isCidr,
  readEnvironment,
  readMetricsPort,
} from './environment.ts'

const faultsOf = (
  env: Record<string, string>,
  read: (reader: EnvironmentReader) => object,
): readonly string[] => {
  try {
    readEnvironment(env, read)
  } catch (error) {
    if (error instanceof ConfigurationError) return error.faults
    throw error
  }
  return []
}
const KEY = Buffer.alloc(32, 7).toString('base64url')

const readAll = (read: EnvironmentReader) => ({
  name: read.string('NAME', 'curfew'),
  url: read.url('DATABASE_URL', { protocols: ['postgres:', 'postgresql:'] }),
  port: read.integer('PORT', { fallback: 8480, min: 0, max: 65_535 }),
  level: read.oneOf('LEVEL', ['info', 'debug'], 'info'),
  demo: read.flag('DEMO', false),
  brokers: read.list('BROKERS'),
  networks: read.cidrs('NETWORKS'),
  ports: read.ports('PORTS'),
  key: read.secret32('KEY', { required: false }),
  other: read.optional('OTHER'),
})

test('an absent or empty variable gets its default', () => {
  const defaults = {
    name: 'curfew',
    url: null,
    port: 8480,
    level: 'info',
    demo: false,
    brokers: [],
    networks: [],
    ports: null,
    key: null,
    other: null,
  }
  expect(readEnvironment({}, readAll)).toEqual(defaults)
  expect(readEnvironment({ NAME: '', PORT: ' ', KEY: '', DATABASE_URL: '' }, readAll)).toEqual(defaults)
})

test('a variable is parsed to its type', () => {
  const env = {
    DATABASE_URL: 'postgres://u:p@db/curfew',
    PORT: '0',
    LEVEL: 'debug',
    DEMO: 'true',
    BROKERS: 'a:9092, b:9092,',
    NETWORKS: '10.0.0.0/8,fd00::/8',
    PORTS: '443, 8000-8999,1 - 2',
    KEY,
  }
  expect(readEnvironment(env, readAll)).toMatchObject({
    url: env.DATABASE_URL,
    port: 0,
    level: 'debug',
    demo: true,
    brokers: ['a:9092', 'b:9092'],
    networks: ['10.0.0.0/8', 'fd00::/8'],
    ports: [
      [443, 443],
      [8_000, 8_999],
      [1, 2],
    ],
    key: Buffer.alloc(32, 7),
  })
})

test('all mistakes are reported together, each in a line that names its variable', () => {
  const env = {
    DATABASE_URL: 'mysql://u:hunter2@db',
    PORT: '8080x',
    LEVEL: 'loud',
    DEMO: 'yes',
    NETWORKS: '10.0.0.0/8,10.0.0.0/33,fe80::1%eth0/64',
    PORTS: '443,https',
    KEY: `${KEY}hunter2`,
  }
  const faults = faultsOf(env, (read) => ({ ...readAll(read), must: read.string('MUST') }))
  expect(faults).toEqual([
    'DATABASE_URL must be a URL that begins with postgres:// or postgresql://',
    'PORT must be a whole number from 0 to 65535, not "8080x"',
    'LEVEL must be one of info, debug, not "loud"',
    'DEMO must be true or false, not "yes"',
    'NETWORKS: "10.0.0.0/33" is not a CIDR such as 10.0.0.0/8 or fd00::/8',
    'NETWORKS: "fe80::1%eth0/64" is not a CIDR such as 10.0.0.0/8 or fd00::/8',
    'PORTS: "https" is not a port from 1 to 65535, or a range such as 8000-8999',
    expect.stringMatching(/^KEY must be 32 bytes in base64url/),
    'MUST is not set',
  ])
  expect(faults.join()).not.toContain('hunter2')
})

test.each(['65536', '-1', '1e3', '0x10', '3.5', ''.padEnd(400, '9')])('%s is not a port', (PORT) => {
  expect(faultsOf({ PORT }, readAll)).toHaveLength(1)
})

test.each(['0', '65536', '-1', '1-', '9-8', '1-65536', '1-2-3', '443.0', '0x10', '*', '4 43'])(
  '%s is not a range of ports',
  (PORTS) => {
    expect(faultsOf({ PORTS }, readAll)).toEqual([expect.stringMatching(/^PORTS: .*is not a port/)])
  },
)

test.each([KEY.slice(1), `${KEY}AA`, Buffer.alloc(32, 255).toString('base64'), '!'.repeat(43)])(
  '%s is not a key of 32 bytes',
  (value) => {
    expect(faultsOf({ KEY: value }, readAll)).toHaveLength(1)
  },
)

test('a reader that throws because of a mistake does not hide the mistake', () => {
  expect(faultsOf({}, (read) => ({ host: new URL(read.string('URL')).host }))).toEqual(['URL is not set'])
})

test('the metrics port is null by default, and 0 stands for any port', () => {
  const portOf = (env: Record<string, string>) =>
    readEnvironment(env, (read) => ({ port: readMetricsPort(read) })).port
  expect([portOf({}), portOf({ CURFEW_METRICS_PORT: '0' }), portOf({ CURFEW_METRICS_PORT: '9464' })]).toEqual(
    [...[null, 0, 9464]],
  )
  expect(faultsOf({ CURFEW_METRICS_PORT: 'x' }, (read) => ({ port: readMetricsPort(read) }))).toHaveLength(1)
})

test('the configuration is frozen at every depth', () => {
  const config = readEnvironment({ BROKERS: 'a' }, (read) => ({
    kafka: { brokers: read.list('BROKERS') },
    key: read.secret32('KEY', { required: false }),
  }))
  expect(() => Object.assign(config, { kafka: null })).toThrow(TypeError)
  expect(() => (config.kafka.brokers as string[]).push('b')).toThrow(TypeError)
})

test.each([
  ['10.0.0.0/8', true],
  ['::1/128', true],
  ['10.0.0.0', false],
  ['10.0.0.0/', false],
  ['10.0.0.0/8/8', false],
  ['example.com/8', false],
  ['::1/129', false],
])('isCidr(%s) is %s', (text, is) => {
  expect(isCidr(text)).toBe(is)
})

test.each(['admin', 'x'.repeat(31), `${'x'.repeat(40)} y`, 'ü'.repeat(40)])(
  'an API key that is too short or not a valid bearer token is refused and not shown: %s',
  (key) => {
    const faults = faultsOf({ API_KEY: key }, (read) => ({ key: read.apiKey('API_KEY', { required: true }) }))
    expect(faults).toHaveLength(1)
    expect(faults[0]).toMatch(/^API_KEY must be at least 32 characters/)
    expect(faults[0]).not.toContain(key)
  },
)
