import type { KafkaLog } from './client.ts'

/** The methods of a service's log that are used here. */
interface Lines {
  debug(line: Line): void
  info(line: Line): void
  warn(line: Line): void
  error(line: Line): void
}
type Line = { readonly event: string } & Readonly<Record<string, unknown>>

/**
 * Writes to a service's log. The messages of kafkajs, which have a namespace, are logged as `debug`: the errors are thrown too.
 */
export function createKafkaLog(lines: Lines): KafkaLog {
  return (level, message, details) =>
    lines['namespace' in details ? 'debug' : level]({ event: 'kafka.noted', message, ...details })
}
