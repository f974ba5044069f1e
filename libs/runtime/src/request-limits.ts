import { type Bucket, refilled } from '@curfew/domain'
import type { Credential } from './credentials.ts'

type Payer = Pick<Credential, 'name' | 'requestsPerSecond'>

/**
 * Limits the request rate of each credential, in this process. Work is paid from named budgets, so that one kind of work does
 * not use up the budget of another.
 */
export interface RequestLimits {
  /**
   * Pays for one request unless the budget is overdrawn. A request may cost more than the budget holds and then overdraws it: the
   * cost is often known only while the request is answered, and a single request always passes.
   *
   * @returns the milliseconds to wait if nothing was paid; otherwise 0.
   */
  pay(credential: Payer, budget: string, units: number): number
  /**
   * Charges for a request that already passed, whatever the budget holds.
   *
   * @param owedS the largest overdraft, in seconds of the budget's rate. Default: no limit.
   */
  charge(credential: Payer, budget: string, units: number, owedS?: number): void
}

/** The size of a budget, in seconds of its rate, and its minimum: a page of the console sends a dozen requests together. */
const BURST_S = 2
const BURST_MIN = 20
/** Most budgets that are kept in memory. A dropped one starts full again. */
const REMEMBERED_MAX = 10_000

/** Elements of an array that cost one unit. Together they save requests, but not the work of each element. */
const ELEMENTS_PER_UNIT = 4
const BYTES_PER_UNIT = 8_192
/** Members and elements of a body that cost one unit. They take more processor time than their bytes. */
const VALUES_PER_UNIT = 100

/** The cost of an array with this number of elements. A request without an array costs 1. */
export function unitsOfElements(elements: number): number {
  return Math.max(1, elements / ELEMENTS_PER_UNIT)
}

/** The cost of a body with this number of bytes. */
export function unitsOfBytes(bytes: number): number {
  return Math.max(1, bytes / BYTES_PER_UNIT)
}

/** The cost of a JSON body, or of a part of one, by its bytes and values (object members and array elements). It may be below 1. */
export function sizeUnits(bytes: number, values: number): number {
  return Math.max(bytes / BYTES_PER_UNIT, values / VALUES_PER_UNIT)
}

/**
 * @param perSecond the rate of credentials without their own; null means no limit.
 * @param burst the size of every budget. Default: by the rate.
 */
export function createRequestLimits({
  perSecond,
  burst,
  monotonicMs,
}: {
  perSecond: number | null
  burst?: number
  monotonicMs: () => number
}): RequestLimits {
  const buckets = new Map<string, Bucket>()

  function write(key: string, bucket: Bucket): void {
    // Moved to the end, so that the first one is the least recently used.
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
      burst ?? Math.max(BURST_MIN, rate * BURST_S),
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
      const lowest = owedS === undefined ? Number.NEGATIVE_INFINITY : -owedS * rate
      write(key, { ...bucket, tokens: Math.max(bucket.tokens - units, Math.min(bucket.tokens, lowest)) })
    },
  }
}
