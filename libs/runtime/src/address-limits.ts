import { isIPv6 } from 'node:net'
import { createRequestLimits } from './request-limits.ts'

/** Requests that one address may make in a second of what needs no credential and costs something. Twenty may come at once. */
const PER_SECOND = 10

/** Keeps each address to a rate, in this process. */
export interface AddressLimits {
  /** Counts one request. @returns milliseconds to wait first where it is one too many; else 0. */
  take(address: string): number
}

export function createAddressLimits({
  monotonicMs = () => performance.now(),
}: {
  readonly monotonicMs?: () => number
} = {}): AddressLimits {
  const limits = createRequestLimits({ perSecond: PER_SECOND, monotonicMs })
  return { take: (address) => limits.pay({ name: ownerOf(address), requestsPerSecond: null }, 'public', 1) }
}

/** What one owner has of addresses: of IPv6 a whole /64. */
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
