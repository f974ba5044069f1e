import { describe, expect, test } from 'vitest'
import type { ClientId, Issuer, IssuerName } from '../ids.ts'
import { confinesOf, covers, EVERYTHING, type Reach, reaches } from './reach.ts'

// Goal: whoever is bound to something reaches that and nothing beside it.

const main = { issuer: 'main' as IssuerName, iss: 'https://idp.example' as Issuer }
const idp: Reach = { kind: 'issuer', ...main }
const owner: Reach = { kind: 'clients', ...main, clients: new Set(['mail', 'wiki'] as ClientId[]) }

describe('reaches', () => {
  test.each([
    ['everything', EVERYTHING, true, true, true, true],
    ['one issuer', idp, true, true, true, false],
    ['some clients', owner, false, true, false, false],
  ] as const)('%s', (_name, reach, ownIssuer, ownClient, otherClient, otherIssuer) => {
    expect(reaches(reach, { issuer: 'main', clientId: null })).toBe(ownIssuer)
    expect(reaches(reach, { issuer: 'main', clientId: 'mail' })).toBe(ownClient)
    expect(reaches(reach, { issuer: 'main', clientId: 'crm' })).toBe(otherClient)
    expect(reaches(reach, { issuer: 'other', clientId: 'mail' })).toBe(otherIssuer)
    expect(reaches(reach, { issuer: 'other', clientId: null })).toBe(otherIssuer)
  })
})

describe('confinesOf', () => {
  test('the whole reach, where nothing in particular is asked for', () => {
    expect(confinesOf(EVERYTHING)).toEqual({ issuer: null, clientIds: null })
    expect(confinesOf(idp)).toEqual({ issuer: 'main', clientIds: null })
    expect(confinesOf(owner)).toEqual({ issuer: 'main', clientIds: ['mail', 'wiki'] })
  })

  test('what is asked for, as far as it lies within reach', () => {
    expect(confinesOf(EVERYTHING, { issuer: 'main', clientId: 'crm' })).toEqual({
      issuer: 'main',
      clientIds: ['crm'],
    })
    expect(confinesOf(idp, { issuer: null, clientId: 'crm' })).toEqual({ issuer: 'main', clientIds: ['crm'] })
    expect(confinesOf(idp, { issuer: 'other', clientId: null }).clientIds).toEqual([])
    expect(confinesOf(owner, { issuer: null, clientId: 'mail' }).clientIds).toEqual(['mail'])
    expect(confinesOf(owner, { issuer: 'main', clientId: 'crm' }).clientIds).toEqual([])
    expect(confinesOf(owner, { issuer: 'other', clientId: 'mail' }).clientIds).toEqual([])
  })
})

test('covers what was confined to it or to less, and nothing wider', () => {
  const all = { issuer: null, clientIds: null }
  const main_ = { issuer: 'main', clientIds: null }
  expect(covers(EVERYTHING, all)).toBe(true)
  expect(covers(idp, all)).toBe(false)
  expect(covers(idp, main_)).toBe(true)
  expect(covers(idp, { issuer: 'other', clientIds: null })).toBe(false)
  expect(covers(owner, main_)).toBe(false)
  expect(covers(owner, { issuer: 'main', clientIds: ['mail'] })).toBe(true)
  expect(covers(owner, { issuer: 'main', clientIds: ['mail', 'crm'] })).toBe(false)
})
