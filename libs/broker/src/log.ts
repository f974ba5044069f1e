import type { KafkaLog } from './client.ts'

/** As much of a service's log as is needed here. */
interface Lines {
  debug(line: Line): void
  info(line: Line): void
  warn(line: Line): void
  error(line: Line): void
}
type Line = { readonly event: string } & Readonly<Record<string, unknown>>

/** Writes to a service's log. kafkajs's own lines, which have a namespace, go at level `debug`: what comes of them is thrown too. */
export function createKafkaLog(lines: Lines): KafkaLog {
  return (level, message, details) =>
    lines['namespace' in details ? 'debug' : level]({ event: 'kafka.noted', message, ...details })
}
