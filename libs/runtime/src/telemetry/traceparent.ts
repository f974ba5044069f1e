import { randomBytes } from 'node:crypto'

/** Version 00, or a later version whose beginning is parsed as 00 (Trace Context 3.2, versioning). */
const TRACEPARENT =
  /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/

/** Parses a W3C `traceparent` as version 00. Null if it is absent or invalid; an invalid one is treated as absent. */
export function parseTraceparent(header: unknown): string | null {
  if (typeof header !== 'string') return null
  const [whole, traceId, parentId, flags] = TRACEPARENT.exec(header) ?? []
  if (whole === undefined || (whole.length > 55 && whole.startsWith('00'))) return null
  return `00-${traceId}-${parentId}-${flags}`
}

/** Makes a new trace context: random, not sampled. */
export function newTraceparent(): string {
  const hex = randomBytes(24).toString('hex')
  return `00-${hex.slice(0, 32)}-${hex.slice(32)}-00`
}

/** The trace id of a `traceparent`: 32 hexadecimal digits. */
export function traceIdOf(traceparent: string): string {
  return traceparent.slice(3, 35)
}

/** A trace context below `parent`: the same trace and flags, with a new span id. */
export function childOf(parent: string): string {
  return `${parent.slice(0, 36)}${randomBytes(8).toString('hex')}${parent.slice(52)}`
}

/** Whether the trace of a `traceparent` is recorded. */
export function isSampled(traceparent: string): boolean {
  return (Number.parseInt(traceparent.slice(53), 16) & 1) === 1
}
