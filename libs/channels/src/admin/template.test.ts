import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { addressFault, addressOf, bodyOf, bodyValueFault, lacking, type Values } from './template.ts'

// Goal: no name of a logout leads a request to another address, or into another member of a body.

const of = (value: string): Values => ({ sid: value, sub: value, email: value })
const TEMPLATE = 'https://idp.example/admin/users/{sub}/logout?sid={sid}&all=true'

describe('a name in an address', () => {
  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc
      .array(
        fc.constantFrom(
          '.',
          '..',
          '/',
          '\\',
          '%2e',
          '%2F',
          '?',
          '#',
          '&',
          '=',
          '{sub}',
          ';',
          '@',
          ':',
          '\r\n',
          'a',
        ),
      )
      .map((parts) => parts.join('')),
  )

  test('stays a segment of the path and a value of the query, whatever it is', () => {
    fc.assert(
      fc.property(texts, (text) => {
        fc.pre(lacking([TEMPLATE], of(text)) === null)
        const uri = addressOf(TEMPLATE, of(text))
        expect(uri).toMatch(/^[\x21-\x7e]+$/)
        const url = new URL(uri)
        expect([url.origin, url.hash]).toEqual(['https://idp.example', ''])
        const segments = url.pathname.split('/')
        expect([segments.length, segments[1], segments[2], segments[4]]).toEqual([
          5,
          'admin',
          'users',
          'logout',
        ])
        expect(decodeURIComponent(segments[3] ?? '')).toBe(text)
        expect([...url.searchParams]).toEqual([
          ['sid', text],
          ['all', 'true'],
        ])
      }),
      { numRuns: 2_000 },
    )
  })

  test('stays below its folder if the server decodes it before it resolves dots', () => {
    fc.assert(
      fc.property(texts, (text) => {
        fc.pre(lacking([TEMPLATE], of(text)) === null)
        const { pathname } = new URL(addressOf(TEMPLATE, of(text)))
        const decoded = decodeURIComponent(pathname)
          .replaceAll('\\', '/')
          .replace(/[?#].*/s, '')
        expect(new URL(decoded, 'https://idp.example').pathname).toMatch(/^\/admin\/users\//)
      }),
    )
  })

  test.each(['', '.', '..', '%2e%2E', '../clients', 'a/../b', 'a\\..\\b', '\ud800'])(
    'is never sent: %j',
    (text) => {
      expect(lacking([TEMPLATE], of(text))).toMatchObject({ reason: 'sub_required' })
      expect(lacking([TEMPLATE], { ...of('u1'), sid: text })).toMatchObject({ reason: 'sid_required' })
    },
  )

  test.each([
    ['sub', 'sub_required'],
    ['sid', 'sid_required'],
    ['email', 'email_required'],
  ])('is required if the template has {%s}', (name, reason) => {
    const values = { ...of('u1'), [name]: null }
    expect(lacking([`https://idp.example/{${name}}`], values)).toMatchObject({ reason })
    expect(lacking(['https://idp.example/all'], values)).toBeNull()
  })

  test('may contain dots, slashes and spaces otherwise', () => {
    expect(addressOf('https://idp.example/{sub}', of("auth0|a b/c...'(x)"))).toBe(
      'https://idp.example/auth0%7Ca%20b%2Fc...%27%28x%29',
    )
  })
})

describe('a template', () => {
  test.each([
    'https://idp.example/users/{sub}',
    'https://idp.example/users/{email}?a={sid}&b=c',
    'https://idp.example?a={sid}',
    'https://idp.example/a/{sub}/{sid}#f',
  ])('%s is accepted', (uri) => {
    expect(addressFault(uri)).toBeNull()
  })

  test.each([
    ['https://idp.example/users/{user}', /unknown placeholder \{user\}/],
    ['https://idp.example/users/{}', /unknown placeholder \{\}/],
    ['https://idp.example/users/{__proto__}', /unknown placeholder/],
    ['https://{sub}.example/users', /after the host name/],
    ['https://idp.example:{sub}/users', /after the host name/],
    ["https://idp.example/users('{sub}')", /whole segment/],
    ['https://idp.example/users/a{sub}', /whole segment/],
    ['https://idp.example/users/{sub', /whole segment/],
    ['https://idp.example/users?filter=id eq "{sub}"', /whole value/],
    ['https://idp.example/users?{sub}=1', /whole value/],
    ['https://idp.example/users?{sub}', /whole value/],
    ['https://idp.example/users/../{sub}', /segments/],
    ['https://idp.example/users/%2e%2E/{sub}', /segments/],
  ])('%s is refused', (uri, words) => {
    expect(addressFault(uri)).toMatch(words)
  })
})

describe('a body', () => {
  test('has each name as the whole value of its member', () => {
    const body = { user: '{sub}', session: '{sid}', all: true, reason: 'logout' }
    const values = { sid: '","all":false,"x":"', sub: 'u1', email: null }
    expect(JSON.parse(bodyOf(body, values))).toEqual({ ...body, user: 'u1', session: values.sid })
  })

  test.each([
    ['{sub}', null],
    ['plain', null],
    [true, null],
    ['{user}', /unknown placeholder/],
    ['id:{sub}', /whole value/],
    ['{sub}{sid}', /whole value/],
  ])('with the value %j', (value, words) => {
    const fault = bodyValueFault(value)
    if (words === null) expect(fault).toBeNull()
    else expect(fault).toMatch(words)
  })
})
