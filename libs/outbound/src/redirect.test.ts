import { afterEach, describe, expect, test } from 'vitest'
import { redirectTarget } from './redirect.ts'
import { cleanUp, client, http, send } from './relying-parties.fixture.ts'

// Goal: the target of a redirect helps its reader, and reveals no token, code or password. Method: locations as servers send them.

afterEach(cleanUp)

const BASE = new URL('https://rp.example/logout?tenant=1')
const target = (location: string) => redirectTarget(location, BASE)

describe('the target of a redirect', () => {
  test.each([
    ['https://idp.example/login', 'https://idp.example/login'],
    ['/login', 'https://rp.example/login'],
    ['login?next=/logout', 'https://rp.example/login?next=…'],
    ['//other.example:8443/', 'https://other.example:8443/'],
    ['http://rp.example/logout', 'http://rp.example/logout'],
    [
      'https://idp.example/auth?client_id=crm&state=s3cret&code',
      'https://idp.example/auth?client_id=…&state=…&…',
    ],
    ['https://anna:s3cret@rp.example/', 'https://…@rp.example/'],
    [
      '/login;jsessionid=s3cret?a=b=s3cret#access_token=s3cret',
      'https://rp.example/login;jsessionid=…?a=…#…',
    ],
    [`/magic/${'s3cret'.repeat(20)}`, 'https://rp.example/magic/…'],
    [`/?${'s3cret'.repeat(20)}=1&s3cret`, 'https://rp.example/?…&…'],
    ['/login%3fcode%3ds3cret', 'https://rp.example/login%3fcode=…'],
    ['/callback&code=s3cret/next', 'https://rp.example/callback&code=…/next'],
    ['com.example.app://callback?code=s3cret', 'com.example.app:…'],
    ['javascript:s3cret', 'javascript:…'],
    ['/a\r\nb\tc\u0000d', 'https://rp.example/abc%00d'],
  ])('of %j is shown as %j', (location, shown) => {
    expect(target(location)).toBe(shown)
    expect(shown).not.toContain('s3cret')
  })

  test('is unknown if it is no URL', () => {
    expect(target('https://[s3cret')).toBeNull()
  })

  test('is short', () => {
    expect(target(`/${'a/'.repeat(5_000)}`)?.length).toBeLessThanOrEqual(500)
  })
})

describe('an answer', () => {
  test.each([301, 302, 303, 307, 308])('of status %i has the target of its redirect', async (status) => {
    const port = await http((_request, response) => {
      response.writeHead(status, { location: '/login?next=s3cret' }).end()
    })
    expect(await send(client(), port)).toMatchObject({
      status,
      location: `http://127.0.0.1:${port}/login?next=…`,
    })
  })

  test.each([
    [201, { location: '/sessions/1' }],
    [302, {}],
  ])('of status %i with the headers %j has no target', async (status, headers) => {
    const port = await http((_request, response) => {
      response.writeHead(status, headers).end()
    })
    expect(await send(client(), port)).not.toHaveProperty('location')
  })
})
