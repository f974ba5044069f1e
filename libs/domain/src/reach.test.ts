import { describe, expect, test } from 'vitest'
import type { ClientId, Issuer, IssuerName } from './ids.ts'
import { confinesOf, EVERYTHING, type Reach, reaches } from './reach.ts'

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

test('says the same as conditions', () => {
  expect(confinesOf(EVERYTHING)).toEqual({ issuer: null, clientIds: null })
  expect(confinesOf(idp)).toEqual({ issuer: 'main', clientIds: null })
  expect(confinesOf(owner)).toEqual({ issuer: 'main', clientIds: ['mail', 'wiki'] })
})
