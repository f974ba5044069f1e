import { expect, test } from 'vitest'
import { createAddressLimits, ownerOf } from './address-limits.ts'

test('an address has a burst and then a rate, independent of other addresses', () => {
  let nowMs = 0
  const limits = createAddressLimits({ monotonicMs: () => nowMs })
  const taken = (address: string, requests: number) =>
    Array.from({ length: requests }, () => limits.take(address)).filter((waitMs) => waitMs === 0).length
  expect(taken('192.0.2.1', 100)).toBe(20)
  expect(taken('192.0.2.2', 1)).toBe(1)
  nowMs = 1_000
  expect(taken('192.0.2.1', 100)).toBe(10)
})

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
  ['2001:db8:0:1::5', '2001:db8:0:1::/64'],
  ['2001:0db8:0000:0001:aaaa:bbbb:cccc:dddd', '2001:db8:0:1::/64'],
  ['::1', '0:0:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
])('the owner of %s is %s', (address, owner) => {
  expect(ownerOf(address)).toBe(owner)
})
