import { isIP } from 'node:net'
import { CurfewError, isLogName } from '@curfew/domain'

/** The environment is wrong. The message has one line for each mistake, and never the value of a secret. */
export class ConfigurationError extends CurfewError {
  override readonly code = 'ERR_CONFIGURATION'
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(faults.join('\n'))
    this.faults = faults
  }
}

/** Reads variables one by one. A mistake is noted and a placeholder returned, so that one run finds all mistakes. */
export interface EnvironmentReader {
  /** Throws nothing: a missing variable without `fallback` is a fault. */
  string(name: string, fallback?: string): string
  optional(name: string): string | null
  integer(name: string, options: { fallback: number; min: number; max: number }): number
  flag(name: string, fallback: boolean): boolean
  oneOf<Value extends string>(name: string, values: readonly Value[], fallback: Value): Value
  /** A URL of one of `protocols`, such as `postgres:`. Null when absent and not required. */
  url(name: string, options: { protocols: readonly string[]; required: true }): string
  url(name: string, options: { protocols: readonly string[]; required?: false }): string | null
  /** Comma-separated; empty when absent. `check` says what is wrong with an item, or null. */
  list(name: string, check?: (item: string) => string | null): readonly string[]
  cidrs(name: string): readonly string[]
  /** Comma-separated ports and ranges such as `443,8000-8999`, as pairs of first and last. Null when absent. */
  ports(name: string): readonly (readonly [first: number, last: number])[] | null
  /** 32 bytes in base64url. Null when absent and not required. */
  secret32(name: string, options: { required: true }): Uint8Array
  secret32(name: string, options: { required: false }): Uint8Array | null
  /** An API key of at least 32 characters, all of them valid in a bearer token (RFC 6750 2.1). */
  apiKey(name: string, options: { required: true }): string
  apiKey(name: string, options: { required: false }): string | null
  /** Notes a mistake that shows only when several variables are compared. */
  fault(line: string): void
}

export type Environment = Readonly<Record<string, string | undefined>>

/**
 * Reads the environment once, into an object that is frozen at every depth.
 *
 * @throws {ConfigurationError} with every mistake, if there are any.
 */
export function readEnvironment<Config extends object>(
  env: Environment,
  read: (reader: EnvironmentReader) => Config,
): Readonly<Config> {
  const faults: string[] = []
  let config: Config
  try {
    config = read(createReader(env, faults))
  } catch (error) {
    // The reader may fail because of a placeholder. Then the noted mistake is the cause.
    if (faults.length > 0) throw new ConfigurationError(faults)
    throw error
  }
  if (faults.length > 0) throw new ConfigurationError(faults)
  return deepFreeze(config)
}

/** Freezes a value at every depth, except bytes, which cannot be frozen. */
function deepFreeze<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || Object.isFrozen(value))
    return value
  for (const member of Object.values(value)) deepFreeze(member)
  return Object.freeze(value)
}

function createReader(env: Environment, faults: string[]): EnvironmentReader {
  // An empty variable counts as absent: compose files and charts write `NAME=` for "not set".
  const get = (name: string): string | null => env[name]?.trim() || null
  const fault = (line: string) => {
    faults.push(line)
  }
  const missing = (name: string) => fault(`${name} is not set`)

  function url(name: string, options: { protocols: readonly string[]; required: true }): string
  function url(name: string, options: { protocols: readonly string[]; required?: boolean }): string | null
  function url(
    name: string,
    { protocols, required }: { protocols: readonly string[]; required?: boolean },
  ): string | null {
    const value = get(name)
    if (value === null) {
      if (required === true) missing(name)
      return required === true ? '' : null
    }
    // The value may hold a password, so it is not shown.
    if (!URL.canParse(value) || !protocols.includes(new URL(value).protocol)) {
      fault(
        `${name} must be a URL that begins with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`,
      )
    }
    return value
  }

  function secret32(name: string, options: { required: true }): Uint8Array
  function secret32(name: string, options: { required: boolean }): Uint8Array | null
  function secret32(name: string, { required }: { required: boolean }): Uint8Array | null {
    const value = get(name)
    if (value === null) {
      if (required) missing(name)
      return required ? new Uint8Array(32) : null
    }
    const bytes = Buffer.from(value, 'base64url')
    if (bytes.length !== 32 || !/^[\w-]+={0,2}$/.test(value)) {
      fault(
        `${name} must be 32 bytes in base64url (43 characters), such as \`node -p 'crypto.randomBytes(32).toString("base64url")'\` gives`,
      )
    }
    return bytes
  }

  function apiKey(name: string, options: { required: true }): string
  function apiKey(name: string, options: { required: boolean }): string | null
  function apiKey(name: string, { required }: { required: boolean }): string | null {
    const value = get(name)
    if (value === null) {
      if (required) missing(name)
      return required ? '' : null
    }
    if (!/^[\w\-.~+/]{32,}=*$/.test(value)) {
      fault(`${name} must be at least 32 characters long, of letters, digits and -._~+/`)
    }
    return value
  }

  function list(name: string, check: (item: string) => string | null = () => null): readonly string[] {
    const items = (get(name) ?? '')
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== '')
    for (const item of items) {
      const wrong = check(item)
      if (wrong !== null) fault(`${name}: ${JSON.stringify(item)} ${wrong}`)
    }
    return items
  }

  return {
    fault,
    url,
    secret32,
    apiKey,
    list,
    string(name, fallback) {
      const value = get(name) ?? fallback
      if (value === undefined) missing(name)
      return value ?? ''
    },
    optional: get,
    integer(name, { fallback, min, max }) {
      const value = get(name)
      if (value === null) return fallback
      const number = Number(value)
      if (!/^-?\d+$/.test(value) || number < min || number > max) {
        fault(`${name} must be a whole number from ${min} to ${max}, not ${JSON.stringify(value)}`)
      }
      return number
    },
    flag(name, fallback) {
      const value = get(name)
      if (value === null) return fallback
      if (value !== 'true' && value !== 'false')
        fault(`${name} must be true or false, not ${JSON.stringify(value)}`)
      return value === 'true'
    },
    oneOf(name, values, fallback) {
      const value = get(name)
      const found = values.find((candidate) => candidate === value)
      if (value !== null && found === undefined) {
        fault(`${name} must be one of ${values.join(', ')}, not ${JSON.stringify(value)}`)
      }
      return found ?? fallback
    },
    cidrs: (name) =>
      list(name, (item) => (isCidr(item) ? null : 'is not a CIDR such as 10.0.0.0/8 or fd00::/8')),
    ports(name) {
      const items = list(name, (item) =>
        readPorts(item) === null ? 'is not a port from 1 to 65535, or a range such as 8000-8999' : null,
      )
      return items.length === 0 ? null : items.map((item) => readPorts(item) ?? NO_PORT)
    },
  }
}

/** The placeholder for an invalid range. */
const NO_PORT = [0, 0] as const

/** Parses one port or a range of ports to the first and the last; null if the text is neither. */
function readPorts(text: string): readonly [first: number, last: number] | null {
  const [, from, to = from] = /^(\d{1,5})(?:\s*-\s*(\d{1,5}))?$/.exec(text) ?? []
  const [first, last] = [Number(from), Number(to)]
  return first >= 1 && first <= last && last <= 65_535 ? [first, last] : null
}

/** `CURFEW_LOG_ORIGIN`: the name of the log of receipts when it is created. Null: the log names itself. */
export function readLogOrigin(read: Pick<EnvironmentReader, 'optional' | 'fault'>): string | null {
  const origin = read.optional('CURFEW_LOG_ORIGIN')
  if (origin !== null && !isLogName(origin))
    read.fault(
      'CURFEW_LOG_ORIGIN must contain neither spaces nor a plus sign; an example is logout.example.com/receipts',
    )
  return origin
}

/** `CURFEW_READ_TIMEOUT_MS`: PostgreSQL cancels a read after this time. */
export function readReadTimeout(read: Pick<EnvironmentReader, 'integer'>): number {
  return read.integer('CURFEW_READ_TIMEOUT_MS', { fallback: 5_000, min: 100, max: 30_000 })
}

/** `CURFEW_METRICS_PORT`: a separate port for `/metrics`. Null: the service's own port serves it. */
export function readMetricsPort(read: Pick<EnvironmentReader, 'optional' | 'integer'>): number | null {
  if (read.optional('CURFEW_METRICS_PORT') === null) return null
  return read.integer('CURFEW_METRICS_PORT', { fallback: 0, min: 0, max: 65_535 })
}

/** Whether `text` is a network in CIDR notation, IPv4 or IPv6. */
export function isCidr(text: string): boolean {
  const [address = '', prefix = '', ...rest] = text.split('/')
  const family = isIP(address)
  return (
    family !== 0 &&
    // A zone names an interface of one machine and belongs to no network.
    !address.includes('%') &&
    rest.length === 0 &&
    /^\d{1,3}$/.test(prefix) &&
    Number(prefix) <= (family === 4 ? 32 : 128)
  )
}

/** Reads a service's configuration. Mistakes end the process with status 2 and one line each on standard error. */
export function readOrExit<Config>(read: (env: Environment) => Config): Config {
  try {
    return read(process.env)
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error
    for (const fault of error.faults) process.stderr.write(`${fault}\n`)
    process.exit(2)
  }
}
