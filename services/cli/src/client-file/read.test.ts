import { describe, expect, test } from 'vitest'
import { readClientFile } from './read.ts'

// Goal: a file of clients is read as people have it, and faults are named by their place in that file.
// Method: files in the forms that Keycloak, Ory, Auth0, Okta, IdentityServer, jq and Curfew write.

const SHOP = { client_id: 'shop', backchannel_logout_uri: 'https://shop.example/logout' }
const WIKI = { client_id: 'wiki', backchannel_logout_uri: 'https://wiki.example/logout' }
const sent = (text: string) =>
  readClientFile(text, 'clients.json')
    .ndjson.trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
const json = (value: unknown) => JSON.stringify(value, null, 2)

/** The export of a realm, shortened. */
const REALM = {
  id: '77c8184b',
  realm: 'acme',
  defaultSignatureAlgorithm: 'ES256',
  sslRequired: 'external',
  users: [{ username: 'alice', clientConsents: [] }],
  clients: [
    {
      clientId: 'account',
      protocol: 'openid-connect',
      attributes: { 'id.token.signed.response.alg': 'PS256' },
    },
    { clientId: 'shop', protocol: 'openid-connect', attributes: { 'backchannel.logout.url': '/logout' } },
    { clientId: 'https://saml.example', protocol: 'saml', attributes: {} },
  ],
  clientScopes: [{ name: 'email', protocol: 'openid-connect' }],
}

describe('the clients of a file', () => {
  test.each<[string, string]>([
    ['a list', json([SHOP, WIKI])],
    ["a list of Curfew's or of Ory's command line", json({ items: [SHOP, WIKI], next_cursor: null })],
    ['a page of Auth0', json({ start: 0, limit: 50, length: 2, total: 2, clients: [SHOP, WIKI] })],
    ['a file of settings', json({ Logging: {}, IdentityServer: { Clients: [SHOP, WIKI] } })],
    ['NDJSON with CRLF and empty lines', `${JSON.stringify(SHOP)}\r\n\r\n${JSON.stringify(WIKI)}\r\n`],
    ['indented values that follow each other', `${json(SHOP)}\n${json(WIKI)}\n`],
    ['pages in NDJSON', `${JSON.stringify({ items: [SHOP] })}\n${JSON.stringify({ items: [WIKI] })}\n`],
  ])('are read from %s', (_, text) => {
    expect(sent(text)).toEqual([SHOP, WIKI])
  })

  test('may have braces and quotes in their texts', () => {
    const named = { ...SHOP, client_name: 'The "{ shop' }
    expect(sent(`${json(named)}\n${json(WIKI)}`)).toEqual([named, WIKI])
  })

  test('are one client alone', () => {
    expect(sent(json(SHOP))).toEqual([SHOP])
  })

  test("of a realm have the realm's default algorithm, unless they have their own or speak SAML", () => {
    const file = readClientFile(json(REALM), 'realm.json')
    const algorithms = file.documents.map(({ attributes }) =>
      Reflect.get(Object(attributes), 'id.token.signed.response.alg'),
    )
    expect([file.realm, algorithms]).toEqual(['acme', ['PS256', 'ES256', undefined]])
    expect(sent(json([REALM]))).toHaveLength(3)
  })

  test('may be one page of them, and the reader says so', () => {
    const remarksOf = (wrapper: object) => readClientFile(json(wrapper), 'page.json').remarks
    const page = ['page.json is one page of a longer list. Import the other pages too.']
    expect(remarksOf({ items: [SHOP], next_cursor: 'c2hvcA' })).toEqual(page)
    expect(remarksOf({ items: [SHOP], next_page_token: 'p2', is_last_page: false })).toEqual(page)
    expect(remarksOf({ start: 0, limit: 1, total: 9, clients: [SHOP] })).toEqual(page)
    expect(remarksOf({ items: [SHOP], next_page_token: '', is_last_page: true })).toEqual([])
  })
})

describe('a file that is not understood', () => {
  const secret = 'hush-hush'
  test.each<[string, string, RegExp]>([
    ['in YAML', 'realm: acme\nclients:\n  - clientId: shop\n', /^f is YAML.*yq -o=json \. f$/],
    ['in YAML after a comment', '# clients\n---\n- client_id: shop\n', /^f is YAML/],
    ['in XML', '<EntityDescriptor/>', /^f is XML or HTML/],
    [
      'with a faulty line',
      json(SHOP).replace('"shop",', '"shop",,'),
      /^f is neither JSON nor NDJSON: line \d+ is faulty\.$/,
    ],
    ['that is cut', '{ "clients": [', /^f is neither JSON nor NDJSON: it ends too early\./],
    ['that is cut in a text', '{\n "clients": [\n {"client_id": "sh', /: it ends too early\./],
    ['that is cut behind a value', '{\n "clients": [\n {"client_id": "shop"\n', /: it ends too early\./],
    ['without text', ' \n', /^f is empty\.$/],
    ['with an empty list', '{ "items": [] }', /^f has no clients\.$/],
    ['with a realm without clients', json({ ...REALM, clients: undefined }), /without its clients/],
    ['with several realms', json([REALM, { ...REALM, realm: 'beta' }]), /several realms .*acme, beta/],
    [
      'with several lists',
      json({ web: [SHOP], native: [WIKI] }),
      /several lists of clients: \/web, \/native/,
    ],
    ['with a secret beside its fault', `{ "client_secret": "${secret}" "x" }`, /^f is neither JSON/],
  ])('%s is named once', (_, text, words) => {
    const read = () => readClientFile(text, 'f')
    expect(read).toThrow(words)
    expect(read).not.toThrow(secret)
  })
})

describe('a place of the import', () => {
  const where = (text: string, line: number, pointer: string) =>
    readClientFile(text, 'f').placeOf(line, pointer).where

  test.each<[string, string, number, string, string]>([
    [
      'a realm',
      json(REALM),
      2,
      '/attributes/backchannel.logout.url',
      '/clients/1/attributes/backchannel.logout.url',
    ],
    [
      'a realm whose default is at fault',
      json(REALM),
      2,
      '/attributes/id.token.signed.response.alg',
      '/defaultSignatureAlgorithm',
    ],
    ['a list', json([SHOP, WIKI]), 2, '/client_name', '/1/client_name'],
    ['one client', json(SHOP), 1, '/client_name', '/client_name'],
    ['NDJSON', `\n${JSON.stringify(SHOP)}\n\n${JSON.stringify(WIKI)}\n`, 2, '/x', 'line 4: /x'],
    ['NDJSON with a faulty line', `${JSON.stringify(SHOP)}\n{ "a\n${JSON.stringify(WIKI)}`, 2, '', 'line 2'],
    ['indented values', `${json(SHOP)}\n${json(WIKI)}\n`, 2, '/x', 'line 5: /x'],
  ])('is named in %s', (_, text, line, pointer, place) => {
    expect(where(text, line, pointer)).toBe(place)
  })

  test('has the name of a client without an id', () => {
    const file = readClientFile(json([{ client_name: 'Shop' }, { label: 'Wiki' }, SHOP]), 'f')
    expect([1, 2, 3].map((line) => file.nameOf(line))).toEqual(['Shop', 'Wiki', 'shop'])
  })
})
