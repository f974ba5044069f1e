import { hash } from 'node:crypto'
import { expect, test } from 'vitest'
import { eventIdOf, type Issuer, type Subject } from '../ids.ts'
import { type IssuerLogout, sameContent } from './event.ts'
import { childOf } from './issuer-logout.ts'

const digest = (text: string) => hash('sha256', text)
const at = (s: number) => new Date(Date.UTC(2026, 10, 21, 5, 0, s))
const PARENT: IssuerLogout = {
  id: '01938c2e-0000-8000-8000-000000000001' as IssuerLogout['id'],
  givenId: '01938c2e-0000-7000-8000-000000000001' as IssuerLogout['givenId'],
  iss: 'https://idp.example' as Issuer,
  ...{ scope: 'issuer', sub: null, sid: null, requestedBy: 'ops' },
  ...{ reason: 'compromise', initiator: null, includeInitiator: false, clients: null, lane: 'bulk' },
  ...{ occurredAt: at(0), acceptedAt: at(0) },
}
const child = (sub: string, acceptedAt = at(9), parent = PARENT, salt = 'salt') =>
  childOf(parent, sub as Subject, { acceptedAt, salt, digest })

test('the part for one subject is the same event whenever it is made', () => {
  expect(child('u1').id).toBe(child('u1', at(30)).id)
  expect(sameContent(child('u1'))).toBe(sameContent(child('u1', at(30))))
  expect(sameContent(child('u1', PARENT.acceptedAt))).toBe(sameContent(child('u1')))
})

test('different subjects and different issuer logouts have different parts', () => {
  const other = { ...PARENT, id: '01938c2e-0000-7000-8000-000000000002' as IssuerLogout['id'] }
  expect(new Set([child('u1').id, child('u2').id, child('u1', at(9), other).id]).size).toBe(3)
  // The parent and the subject alone do not determine the id.
  expect(child('u1', at(9), PARENT, 'another').id).not.toBe(child('u1').id)
  expect(child('u1').givenId).not.toBe(child('u1', at(9), PARENT, 'another').givenId)
  expect(child('u1').givenId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
})

test('a part has the content of the issuer logout, and names it as its parent', () => {
  expect(child('u1')).toEqual({
    ...{
      id: eventIdOf(PARENT.iss, child('u1').givenId, digest),
      givenId: expect.any(String),
      parentId: PARENT.id,
      iss: PARENT.iss,
      scope: 'subject',
      sub: 'u1',
      sid: null,
    },
    ...{ reason: 'compromise', initiator: null, includeInitiator: false, clients: null, lane: 'bulk' },
    ...{ occurredAt: at(0), acceptedAt: at(9), parentAcceptedAt: at(0) },
  })
})

test('another requester does not change the content of an issuer logout', () => {
  expect(sameContent({ ...PARENT, requestedBy: 'another' })).toBe(sameContent(PARENT))
})
