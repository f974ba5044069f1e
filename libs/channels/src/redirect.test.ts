import { describe, expect, test } from 'vitest'
import { redirectFix } from './redirect.ts'

// Goal: the advice for a redirect never leads to the registration of a login page.

const URI = 'https://shop.example/backchannel-logout'
const fixOf = (location: string | null, uri: string | null = URI) => redirectFix({ uri, location }, 'the_uri')

describe('a redirect', () => {
  test.each([
    '/login',
    'https://shop.example/login?next=/backchannel-logout',
    'https://idp.example/realms/shop/protocol/openid-connect/auth?client_id=shop&response_type=code',
    '/oauth2/authorization/idp',
    'https://shop.example/users/sign_in',
    '/accounts/login/?next=/backchannel-logout',
    'https://shop.example/Account/LogOn?ReturnUrl=%2Fbackchannel-logout',
  ])('to a login page means that the endpoint demands a session: %s', (location) => {
    for (const uri of [URI, null]) {
      const fix = fixOf(location, uri)
      expect(fix).toMatch(/demands a session: exclude its path .* Do not register/)
      expect(fix).not.toMatch(/(^|\. )Register/)
    }
  })

  test.each([
    ['http://shop.example/backchannel-logout', 'https://shop.example/backchannel-logout'],
    [URI, 'https://shop.example/backchannel-logout/'],
    [URI, '/backchannel-logout/'],
    [URI, 'https://www.shop.example/backchannel-logout'],
    ['https://shop.example/auth/backchannel-logout', '/auth/backchannel-logout/'],
  ])('of %s to the same path says to register its target: %s', (uri, location) => {
    const target = new URL(location, uri)
    expect(fixOf(location, uri)).toBe(`Register ${target.href} as the_uri: redirects are not followed.`)
  })

  test('to many slashes takes time linear in their number', { timeout: 5_000 }, () => {
    expect(fixOf(`https://shop.example/${'/'.repeat(500_000)}x`)).toMatch(/leads to the same path/)
  })

  test.each([
    ['an unknown target', null],
    ['a target that is no URL', 'http://['],
    ['another page', '/home'],
    ['itself', URI],
  ])('to %s names both causes', (_, location) => {
    for (const uri of [URI, null, 'no URL']) {
      expect(fixOf(location, uri)).toMatch(
        /demands a session.*trailing slash, register that address as the_uri/,
      )
    }
  })
})
