import { describe, expect, onTestFinished, test } from 'vitest'
import { openBrowser } from '../browser.ts'
import { openExpressRp } from '../express-rp.ts'
import { openProvider } from '../idp.ts'
import { defineRelay } from './relay.contract.ts'

// Goal: oidc-provider joins Curfew by nothing but another URI, and then loses no logout.
// Method: oidc-provider as it is, once alone and once with the relay's address at its clients; express-openid-connect as the RP.

test('oidc-provider alone loses the logout of an RP that is unavailable', async () => {
  const idp = await openProvider()
  onTestFinished(idp.close)
  const shop = await openExpressRp(idp, { name: 'shop' })
  onTestFinished(shop.close)
  const [first, second] = [openBrowser(), openBrowser()]
  await shop.logIn(first, 'alice')
  await shop.logIn(second, 'bob')
  await idp.logOut(first)
  expect([idp.lost, shop.received.map(({ status }) => status)]).toEqual([[], [204]])
  await shop.pause()
  await idp.logOut(second)
  expect(idp.lost).toEqual([shop.clientId])
  await shop.resume()
  expect([await shop.userOf(first), await shop.userOf(second)]).toEqual([null, 'bob'])
})

describe('oidc-provider behind the relay', () => {
  defineRelay({ name: 'provider', lenient: false, open: () => openProvider() })
})
