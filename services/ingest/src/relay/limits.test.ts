import { expect, test } from 'vitest'
import { createRelayLimits } from './limits.ts'

test('an address that sends bad tokens is limited, and other addresses are not', () => {
  const limits = createRelayLimits()
  const waits = Array.from({ length: 30 }, () => limits.refused('192.0.2.1'))
  expect(waits.slice(0, 20)).toEqual(Array.from({ length: 20 }, () => 0))
  expect(waits.at(-1)).toBeGreaterThan(0)
  expect(limits.refused('192.0.2.2')).toBe(0)
})

test('unverified tokens are limited for an address, and for all addresses of an issuer together', () => {
  const limits = createRelayLimits()
  const accepted = (address: string, issuer = 'main') =>
    Array.from({ length: 3_000 }, () => limits.unverified(address, issuer)).filter((waitMs) => waitMs === 0)
      .length
  // The budget grows while the test runs.
  expect(accepted('192.0.2.1')).toBeLessThan(2_200)
  const others = Array.from({ length: 9 }, (_, n) => accepted(`192.0.2.${n + 2}`))
  expect(others.reduce((sum, count) => sum + count)).toBeLessThan(10_000)
  expect(accepted('192.0.2.20', 'other')).toBeGreaterThanOrEqual(2_000)
})
