import { type Bucket, refilled } from '@curfew/domain'
import type { Credential } from './credentials.ts'

type Payer = Pick<Credential, 'name' | 'requestsPerSecond'>

/**
 * Keeps each credential to its rate, in this process. Work is paid from budgets of different names: what one kind of work
 * spends is not missing from another.
 */
export interface RequestLimits {
  /**
   * Pays for one request, unless the budget is overdrawn. A request that is dearer than what is left overdraws it: the cost is
   * often known only when the request is being answered, and one request always goes through.
   *
   * @returns milliseconds to wait first where nothing was paid; else 0.
   */
  pay(credential: Payer, budget: string, units: number): number
  /**
   * Charges for a request that was let in, whatever is left.
   *
   * @param owedS most that the budget may be overdrawn by, in seconds of its rate. Default: no limit.
   */
  charge(credential: Payer, budget: string, units: number, owedS?: number): void
}

/** What a budget holds, in seconds of the rate, and the least: a page of the console asks for a dozen things together. */
const BURST_S = 2
const BURST_MIN = 20
/** Most budgets that are remembered. One that is forgotten begins full. */
const REMEMBERED_MAX = 10_000

/** Elements of an array that cost as much as one request: they save the request itself, not the work behind it. */
const ELEMENTS_PER_UNIT = 4
const BYTES_PER_UNIT = 8_192
/** Members and elements of a body: each takes the processor longer than its bytes do. */
const VALUES_PER_UNIT = 100

/** What an array of so many elements costs. A request that is no array costs 1. */
export function unitsOfElements(elements: number): number {
  return Math.max(1, elements / ELEMENTS_PER_UNIT)
}

/** What a body of so many bytes costs. */
export function unitsOfBytes(bytes: number): number {
  return Math.max(1, bytes / BYTES_PER_UNIT)
}

/** What so many bytes that hold so many members and elements cost, or a part of it. */
export function sizeUnits(bytes: number, values: number): number {
  return Math.max(bytes / BYTES_PER_UNIT, values / VALUES_PER_UNIT)
}

/** @param perSecond for credentials that have no rate of their own; null: as many as they like. */
export function createRequestLimits({
  perSecond,
  monotonicMs,
}: {
  perSecond: number | null
  monotonicMs: () => number
}): RequestLimits {
  const buckets = new Map<string, Bucket>()

  function write(key: string, bucket: Bucket): void {
    // Put back at the end, so that the first is the one that was silent the longest.
    buckets.delete(key)
    buckets.set(key, bucket)
    const [oldest] = buckets.keys()
    if (buckets.size > REMEMBERED_MAX && oldest !== undefined) buckets.delete(oldest)
  }

  function open({ name, requestsPerSecond }: Payer, budget: string) {
    const rate = requestsPerSecond ?? perSecond
    if (rate === null) return null
    const key = `${budget} ${name}`
    const bucket = refilled(
      buckets.get(key) ?? null,
      rate,
      monotonicMs(),
      Math.max(BURST_MIN, rate * BURST_S),
    )
    return { key, bucket, rate }
  }

  return {
    pay(credential, budget, units) {
      const opened = open(credential, budget)
      if (opened === null) return 0
      const { key, bucket, rate } = opened
      const refused = bucket.tokens < 1
      write(key, refused ? bucket : { ...bucket, tokens: bucket.tokens - units })
      return refused ? Math.ceil(((1 - bucket.tokens) / rate) * 1_000) : 0
    },
    charge(credential, budget, units, owedS) {
      const opened = open(credential, budget)
      if (opened === null) return
      const { key, bucket, rate } = opened
      const least = owedS === undefined ? Number.NEGATIVE_INFINITY : -owedS * rate
      write(key, { ...bucket, tokens: Math.max(bucket.tokens - units, Math.min(bucket.tokens, least)) })
    },
  }
}
