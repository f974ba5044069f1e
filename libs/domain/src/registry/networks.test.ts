import { BlockList, isIP } from 'node:net'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  effectiveNetworks,
  intersectNetworks,
  liesWithin,
  type NetworkRule,
  type NetworkSettings,
  networkAccess,
  networkLimit,
  ruleAfter,
  ruleAfterRemoval,
} from './networks.ts'

// Goal: Curfew connects to no network for a registration, unless the deployment or an unbound admin allowed it.
// Method: tables, and node:net's BlockList as the reference for addresses in networks.

const TEN = ['10.0.0.0/8']
const NOTHING: NetworkSettings = { chosen: undefined, rule: null }
const byAdmin = (...networks: readonly string[]): NetworkRule => ({ networks, by: 'admin' })

test.each([
  ['10.1.0.0/16', '10.0.0.0/8', true],
  ['10.0.0.0/8', '10.0.0.0/8', true],
  ['10.9.9.9/8', '10.0.0.0/8', true],
  ['10.0.0.0/7', '10.0.0.0/8', false],
  ['11.0.0.0/8', '10.0.0.0/8', false],
  ['0.0.0.0/0', '10.0.0.0/8', false],
  ['::ffff:10.1.0.0/112', '10.0.0.0/8', true],
  ['::ffff:a01:0/112', '10.0.0.0/8', true],
  ['10.0.0.0/8', '::/0', true],
  ['::/0', '10.0.0.0/8', false],
  ['fd00:1::/32', 'fd00::/8', true],
  ['fe80::/10', 'fd00::/8', false],
  ['::1/128', '::/127', true],
])('liesWithin(%s, [%s]) is %s', (inner, outer, expected) => {
  expect(liesWithin(inner, [outer])).toBe(expected)
})

test('an address lies in the intersection if and only if it lies in both lists', () => {
  const network = fc.oneof(
    fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })).map(([address, prefix]) => `${address}/${prefix}`),
    fc.tuple(fc.ipV6(), fc.integer({ min: 0, max: 128 })).map(([address, prefix]) => `${address}/${prefix}`),
    fc.constantFrom('10.0.0.0/8', '10.1.0.0/16', '::ffff:10.1.2.0/120', 'fd00::/8', 'fd00:1::/32'),
  )
  const networks = fc.array(network, { maxLength: 4 })
  const address = fc.oneof(fc.ipV4(), fc.ipV6(), fc.constantFrom('10.1.2.3', '::ffff:10.1.2.3', 'fd00:1::9'))
  const has = (list: readonly string[], one: string) => {
    const blocks = new BlockList()
    for (const each of list) {
      const [start = '', prefix] = each.split('/')
      blocks.addSubnet(start, Number(prefix), isIP(start) === 6 ? 'ipv6' : 'ipv4')
    }
    return blocks.check(one, isIP(one) === 6 ? 'ipv6' : 'ipv4')
  }
  fc.assert(
    fc.property(networks, networks, address, (some, others, one) => {
      expect(has(intersectNetworks(some, others), one)).toBe(has(some, one) && has(others, one))
    }),
    { numRuns: 2_000, seed: 1 },
  )
})

describe('the networks of a relying party that chose', () => {
  const dialled = (party: NetworkSettings, issuer: NetworkSettings, ceiling: readonly string[]) =>
    effectiveNetworks(networkAccess(party, issuer), ceiling)

  test.each([
    ['none are those of the deployment', NOTHING, NOTHING, TEN, TEN],
    [
      'a part of the deployment are that part',
      { chosen: ['10.1.0.0/16'], rule: null },
      NOTHING,
      TEN,
      ['10.1.0.0/16'],
    ],
    ['an empty list are none', { chosen: [], rule: null }, NOTHING, TEN, []],
    ['others than the deployment are none', { chosen: TEN, rule: null }, NOTHING, [], []],
    [
      'more than the deployment are those of the deployment',
      { chosen: ['0.0.0.0/0'], rule: null },
      NOTHING,
      TEN,
      TEN,
    ],
    [
      'others than the deployment, by an admin, are these',
      { chosen: TEN, rule: byAdmin(...TEN) },
      NOTHING,
      [],
      TEN,
    ],
    [
      "more than the admin's rule are those of the rule",
      { chosen: ['0.0.0.0/0'], rule: byAdmin(...TEN) },
      NOTHING,
      [],
      TEN,
    ],
    [
      "none are those of its issuer's rule by an admin",
      NOTHING,
      { chosen: TEN, rule: byAdmin(...TEN) },
      [],
      TEN,
    ],
    [
      "more than the admin's rule for its issuer are those of the rule",
      { chosen: TEN, rule: null },
      { chosen: [], rule: byAdmin() },
      TEN,
      [],
    ],
    [
      "more than the admin's rule for its issuer, by an admin, are these",
      { chosen: TEN, rule: byAdmin(...TEN) },
      { chosen: [], rule: byAdmin() },
      TEN,
      TEN,
    ],
    [
      "more than the admin's rule for its issuer, by the issuer, are those of the rule",
      { chosen: TEN, rule: { networks: TEN, by: 'issuer' } },
      { chosen: [], rule: byAdmin() },
      TEN,
      [],
    ],
  ] as const)('%s', (_what, party, issuer, ceiling, expected) => {
    expect([...new Set(dialled(party, issuer, ceiling))]).toEqual(expected)
  })
})

test('a credential registers networks within the rules of higher ranks, and an unbound admin any', () => {
  const issuer: NetworkSettings = { chosen: ['10.1.0.0/16'], rule: null }
  const limit = (rank: 'admin' | 'issuer' | 'clients', rule: NetworkRule | null = null) =>
    networkLimit(rank, { rule, issuer, ceiling: TEN })
  expect(limit('admin')).toBeNull()
  expect(limit('issuer')).toEqual(TEN)
  expect(limit('clients')).toEqual(['10.1.0.0/16'])
  for (const rank of ['issuer', 'clients'] as const) expect(limit(rank, byAdmin())).toEqual([])
  expect(limit('clients', { networks: [], by: 'issuer' })).toEqual([])
  expect(limit('issuer', { networks: [], by: 'issuer' })).toEqual(TEN)
})

test('a credential of an equal or higher rank changes a rule, and removes it by leaving the networks out', () => {
  const after = (rule: NetworkRule | null, rank: 'admin' | 'issuer' | 'clients', asked?: readonly string[]) =>
    ruleAfter(rule, { rank, asked })
  expect(after(null, 'admin', [])).toEqual(byAdmin())
  expect(after(byAdmin(), 'admin')).toBeNull()
  expect(after(byAdmin(), 'issuer', TEN)).toEqual(byAdmin())
  expect(after(byAdmin(), 'issuer')).toEqual(byAdmin())
  expect(after({ networks: [], by: 'issuer' }, 'clients', TEN)).toEqual({ networks: [], by: 'issuer' })
  expect(after({ networks: [], by: 'issuer' }, 'issuer')).toBeNull()
  expect(after(null, 'clients', TEN)).toBeNull()
})

test('an admin who removes a registration withdraws granted networks and keeps a narrowing rule', () => {
  const after = (rule: NetworkRule | null, ceiling: readonly string[], rank: 'admin' | 'issuer' = 'admin') =>
    ruleAfterRemoval(rule, { rank, ceiling })
  expect(after(byAdmin(...TEN), [])).toBeNull()
  expect(after(byAdmin(), TEN)).toEqual(byAdmin())
  expect(after(byAdmin('10.1.0.0/16', '192.168.0.0/16'), TEN)).toEqual(byAdmin('10.1.0.0/16'))
  expect(after(byAdmin(), TEN, 'issuer')).toEqual(byAdmin())
  expect(after(null, TEN)).toBeNull()
})
