import { readClient } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import type { RegisterContext } from '../channel.ts'
import { admin } from './channel.ts'

// Goal: a registration declares requests that can be sent to one origin only, and each fault names its member.

function read(own: object | null, targetFault: (uri: string) => string | null = httpsOnly) {
  const registered = own === null ? {} : { channels: { admin: own as Record<string, unknown> } }
  return admin.endpoints(readClient({}), {
    issuer: {
      name: 'main',
      iss: 'https://idp.example',
      sidSupported: true,
      sessionIndex: 'partial',
      maxTokenTtlS: 3_600,
    },
    ...{ registered, settings: registered, own: own ?? {}, targetFault, hasEncryptionKey: () => true },
  } as RegisterContext<object>)
}
const httpsOnly = (uri: string) => (uri.startsWith('https://') ? null : 'must be an https URI')
const faultsOf = (own: object) =>
  read(own).faults.map(({ pointer }) => pointer.replace('/curfew/channels/admin/', ''))

const SESSION = { method: 'DELETE', uri: 'https://idp.example/sessions/{sid}', success: [204, 404] }
const SUBJECT = { method: 'POST', uri: 'https://idp.example/users/{sub}/logout', success: [204] }
const KEYCLOAK = {
  preset: 'keycloak',
  base: 'https://idp.example',
  realm: 'main',
  auth: { client_id: 'curfew' },
}

describe('a preset', () => {
  test('keycloak is the written-out form of its two requests with a token of the realm', () => {
    expect(read(KEYCLOAK)).toMatchObject({
      endpoints: [{ name: 'main', uri: 'https://idp.example', pointer: '/curfew/channels/admin/base' }],
      ...{ faults: [], sendsSecret: true, best: 'done', signs: null },
      settings: {
        session: [
          {
            method: 'DELETE',
            uri: 'https://idp.example/admin/realms/main/sessions/{sid}',
            success: [204, 404],
          },
        ],
        subject: [
          {
            method: 'POST',
            uri: 'https://idp.example/admin/realms/main/users/{sub}/logout',
            success: [204, 404],
          },
        ],
        ...{ level: 'done', holds: 'issuer', widen: false },
        auth: {
          ...{ header: 'authorization', prefix: 'Bearer ' },
          token: {
            endpoint: 'https://idp.example/realms/main/protocol/openid-connect/token',
            ...{ client_id: 'curfew', method: 'client_secret_basic', scope: null, audience: null },
          },
        },
      },
    })
  })

  test.each([
    [KEYCLOAK],
    [{ preset: 'hydra', base: 'https://hydra.example/' }],
    [{ preset: 'okta', base: 'https://org.okta.example' }],
    [{ preset: 'auth0', base: 'https://tenant.auth0.example', auth: { client_id: 'c' } }],
    [
      {
        preset: 'graph',
        auth: { client_id: 'c', token_endpoint: 'https://login.example/t/oauth2/v2.0/token' },
      },
    ],
  ])('%j gives the same settings as its written-out form', (own) => {
    const { settings, faults, endpoints, best } = read(own)
    expect(faults).toEqual([])
    const { auth, holds, ...requests } = settings as Readonly<Record<string, unknown>>
    const { token, ...header } = (auth ?? {}) as { token?: { endpoint: string } & Record<string, unknown> }
    const { endpoint, ...client } = token ?? {}
    const written = Object.fromEntries(
      Object.entries({ ...header, ...client, token_endpoint: endpoint }).filter(([, value]) => value != null),
    )
    const lists = Object.entries(requests).filter(([, value]) => !Array.isArray(value) || value.length > 0)
    const again = read({ ...Object.fromEntries(lists), holds, ...(auth !== null && { auth: written }) })
    expect(again).toMatchObject({ settings, faults: [], best, endpoints: [{ uri: endpoints[0]?.uri }] })
  })

  test.each([
    [
      { preset: 'okta', base: 'https://org.okta.example' },
      { prefix: 'SSWS ', token: null },
    ],
    [{ preset: 'hydra', base: 'https://hydra.example' }, null],
    [{ preset: 'hydra', base: 'https://hydra.example', auth: {} }, null],
    [
      { preset: 'hydra', base: 'https://hydra.example', auth: { header: 'X-Key', prefix: '' } },
      { header: 'X-Key', prefix: '' },
    ],
  ])('%j sends the credential %j', (own, auth) => {
    const { settings, sendsSecret } = read(own)
    expect(sendsSecret).toBe(auth !== null)
    if (auth === null) expect(settings).toMatchObject({ auth })
    else expect(settings).toMatchObject({ auth })
  })
})

describe('a registration', () => {
  test('without settings of the channel has no endpoint and no faults', () => {
    expect(read(null)).toMatchObject({ endpoints: [], faults: [] })
  })

  test.each<[string, object, readonly string[]]>([
    ['without requests', {}, ['subject']],
    ['with a base, but no preset', { subject: [SUBJECT], base: 'https://idp.example' }, ['base']],
    [
      'with a preset and requests of its own',
      { ...KEYCLOAK, subject: [SUBJECT], level: 'done' },
      ['subject', 'level'],
    ],
    ['with a preset without its base', { ...KEYCLOAK, base: undefined }, ['base']],
    ['with a query in the base', { ...KEYCLOAK, base: 'https://idp.example?x={sub}' }, ['base']],
    ['with an http base', { ...KEYCLOAK, base: 'http://idp.example' }, ['base']],
    ['of Keycloak without a realm', { ...KEYCLOAK, realm: undefined }, ['realm']],
    [
      'of another product with a realm',
      { preset: 'hydra', base: 'https://hydra.example', realm: 'main' },
      ['realm'],
    ],
    ['of Keycloak without a client', { ...KEYCLOAK, auth: undefined }, ['auth/client_id']],
    [
      'with a client, but no token endpoint',
      { subject: [SUBJECT], auth: { client_id: 'c' } },
      ['auth/token_endpoint'],
    ],
    ['with a scope, but no client', { subject: [SUBJECT], auth: { scope: 's' } }, ['auth/scope']],
    ['with a header of the connection', { subject: [SUBJECT], auth: { header: 'Host' } }, ['auth/header']],
    [
      'with an http token endpoint',
      { ...KEYCLOAK, auth: { client_id: 'c', token_endpoint: 'http://idp.example/' } },
      ['auth/token_endpoint'],
    ],
    [
      'with an unknown placeholder',
      { subject: [{ ...SUBJECT, uri: 'https://idp.example/{user}' }] },
      ['subject/0/uri'],
    ],
    [
      'with an unknown placeholder in a body',
      { subject: [{ ...SUBJECT, body: { a: '{user}' } }] },
      ['subject/0/body/a'],
    ],
    ['with a sid for the subject', { subject: [{ ...SUBJECT, uri: SESSION.uri }] }, ['subject/0/uri']],
    [
      'that names no one',
      { subject: [{ ...SUBJECT, uri: 'https://idp.example/logout-all' }] },
      ['subject/0/uri'],
    ],
    ['that names no session', { session: [{ ...SESSION, uri: SUBJECT.uri }] }, ['session/0/uri']],
    [
      'with a second origin',
      { session: [SESSION], subject: [SUBJECT, { ...SUBJECT, uri: 'https://other.example/{sub}' }] },
      ['subject/1/uri'],
    ],
    [
      'with another port',
      { subject: [SUBJECT, { ...SUBJECT, uri: 'https://idp.example:8443/{sub}' }] },
      ['subject/1/uri'],
    ],
    [
      'with an http address',
      { subject: [{ ...SUBJECT, uri: 'http://idp.example/{sub}' }] },
      ['subject/0/uri'],
    ],
  ])('%s is refused', (_, own, members) => {
    expect(faultsOf(JSON.parse(JSON.stringify(own)))).toEqual(members)
  })

  test.each([
    [{ session: [SESSION] }, { names: 'session', widens: true, always: false }],
    [{ subject: [SUBJECT] }, { names: 'subject', widens: false, always: false }],
    [
      { subject: [SUBJECT], widen: true },
      { names: 'subject', widens: true, always: false },
    ],
    [
      { session: [SESSION], subject: [SUBJECT] },
      { names: 'either', widens: true, always: false },
    ],
    [
      { session: [SESSION], subject: [SUBJECT], holds: 'issuer' },
      { names: 'either', widens: true, always: true },
    ],
    [KEYCLOAK, { names: 'either', widens: true, always: true }],
    [
      { ...KEYCLOAK, holds: 'client' },
      { names: 'either', widens: true, always: false },
    ],
  ])('%j names %j', (own, names) => {
    expect(admin.names(read(own).settings)).toEqual(names)
  })

  test('acknowledges as begun, unless its level says that the sessions are over', () => {
    expect(read({ subject: [SUBJECT] }).best).toBe('begun')
    expect(read({ subject: [SUBJECT], level: 'done' }).best).toBe('done')
  })

  test('keeps its secret only while the token endpoint stays the same', () => {
    const { settings } = read(KEYCLOAK)
    expect(admin.secretPlaces?.(settings)).toEqual([
      'https://idp.example/realms/main/protocol/openid-connect/token',
    ])
    expect(admin.secretPlaces?.(read({ subject: [SUBJECT], auth: {} }).settings)).toEqual([])
  })
})
