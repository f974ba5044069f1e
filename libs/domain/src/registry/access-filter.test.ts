import { describe, expect, test } from 'vitest'
import type { ClientId, Issuer, IssuerName } from '../ids.ts'
import { type AccessFilter, admits, admitsAll, conditionsOf, EVERYTHING } from './access-filter.ts'

// Goal: an access filter admits the objects that its credential is bound to, and no others.
// Method: a filter of every kind, against objects of its own and of another issuer and client.

const main = { issuer: 'main' as IssuerName, iss: 'https://idp.example' as Issuer }
const idp: AccessFilter = { kind: 'issuer', ...main }
const owner: AccessFilter = { kind: 'clients', ...main, clients: new Set(['mail', 'wiki'] as ClientId[]) }

describe('the filter of', () => {
  test.each([
    ['everything', EVERYTHING, true, true, true, true],
    ['one issuer', idp, true, true, true, false],
    ['some clients', owner, false, true, false, false],
  ] as const)(
    '%s admits only its objects',
    (_name, access, ownIssuer, ownClient, otherClient, otherIssuer) => {
      expect(admits(access, { issuer: 'main', clientId: null })).toBe(ownIssuer)
      expect(admits(access, { issuer: 'main', clientId: 'mail' })).toBe(ownClient)
      expect(admits(access, { issuer: 'main', clientId: 'crm' })).toBe(otherClient)
      expect(admits(access, { issuer: 'other', clientId: 'mail' })).toBe(otherIssuer)
      expect(admits(access, { issuer: 'other', clientId: null })).toBe(otherIssuer)
    },
  )
})

describe('the conditions of a list', () => {
  test('are those of the filter if the request has none', () => {
    expect(conditionsOf(EVERYTHING)).toEqual({ issuer: null, clientIds: null })
    expect(conditionsOf(idp)).toEqual({ issuer: 'main', clientIds: null })
    expect(conditionsOf(owner)).toEqual({ issuer: 'main', clientIds: ['mail', 'wiki'] })
  })

  test('are the intersection of the request and the access filter', () => {
    expect(conditionsOf(EVERYTHING, { issuer: 'main', clientId: 'crm' })).toEqual({
      issuer: 'main',
      clientIds: ['crm'],
    })
    expect(conditionsOf(idp, { issuer: null, clientId: 'crm' })).toEqual({
      issuer: 'main',
      clientIds: ['crm'],
    })
    expect(conditionsOf(idp, { issuer: 'other', clientId: null }).clientIds).toEqual([])
    expect(conditionsOf(owner, { issuer: null, clientId: 'mail' }).clientIds).toEqual(['mail'])
    expect(conditionsOf(owner, { issuer: 'main', clientId: 'crm' }).clientIds).toEqual([])
    expect(conditionsOf(owner, { issuer: 'other', clientId: 'mail' }).clientIds).toEqual([])
  })
})

test('admitsAll is true for conditions within the filter, and false for wider ones', () => {
  const all = { issuer: null, clientIds: null }
  const main_ = { issuer: 'main', clientIds: null }
  expect(admitsAll(EVERYTHING, all)).toBe(true)
  expect(admitsAll(idp, all)).toBe(false)
  expect(admitsAll(idp, main_)).toBe(true)
  expect(admitsAll(idp, { issuer: 'other', clientIds: null })).toBe(false)
  expect(admitsAll(owner, main_)).toBe(false)
  expect(admitsAll(owner, { issuer: 'main', clientIds: ['mail'] })).toBe(true)
  expect(admitsAll(owner, { issuer: 'main', clientIds: ['mail', 'crm'] })).toBe(false)
})
