import { isIPv6 } from 'node:net'
import { createRequestLimits } from './request-limits.ts'

/** Requests per second of one address to routes that need no credential and cost something. A burst of twenty is allowed. */
const PER_SECOND = 10

/** Limits the request rate of each address, in this process. */
export interface AddressLimits {
  /** Counts one request. @returns the milliseconds to wait if it exceeds the rate; otherwise 0. */
  take(address: string): number
}

export interface AddressLimitsOptions {
  /** Requests per second of one address. Default 10. */
  readonly perSecond?: number
  /** Requests that an address may make at once. Default 2 s of its rate, and at least 20. */
  readonly burst?: number
  readonly monotonicMs?: () => number
}

export function createAddressLimits({
  perSecond = PER_SECOND,
  burst,
  monotonicMs = () => performance.now(),
}: AddressLimitsOptions = {}): AddressLimits {
  const limits = createRequestLimits({ perSecond, monotonicMs, ...(burst !== undefined && { burst }) })
  return { take: (address) => limits.pay({ name: ownerOf(address), requestsPerSecond: null }, 'public', 1) }
}

/** The range of addresses that one owner has: an IPv6 address stands for its whole /64. */
export function ownerOf(address: string): string {
  if (!isIPv6(address) || address.toLowerCase().startsWith('::ffff:')) return address
  const [head = '', tail = ''] = address.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':'))
  const missing = address.includes('::') ? 8 - groups(head).length - groups(tail).length : 0
  const all = [...groups(head), ...Array.from({ length: missing }, () => '0'), ...groups(tail)]
  return `${all
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}
