import { EVERYTHING } from '@curfew/domain'
import { expect, test } from 'vitest'
import { createApiKeyAuthenticator, hashApiKey, hasScope } from './credentials.ts'

const authenticate = createApiKeyAuthenticator([
  {
    name: 'idp',
    hash: hashApiKey('cfw_one'),
    scopes: new Set(['events:write']),
    reach: EVERYTHING,
    requestsPerSecond: null,
  },
  {
    name: 'sre',
    hash: hashApiKey('cfw_two'),
    scopes: new Set(['admin']),
    reach: EVERYTHING,
    requestsPerSecond: null,
  },
])

test('a key stands for its credential, and nothing else does', async () => {
  expect(await authenticate('cfw_one')).toMatchObject({ name: 'idp' })
  expect(await authenticate('cfw_two')).toMatchObject({ name: 'sre' })
  for (const token of [
    '',
    'cfw_on',
    'cfw_one ',
    'CFW_ONE',
    Buffer.from(hashApiKey('cfw_one')).toString('hex'),
  ]) {
    expect(await authenticate(token), token).toBeNull()
  }
  expect(await createApiKeyAuthenticator([])('cfw_one')).toBeNull()
})

test('a credential does not carry the hash of its key about', async () => {
  expect(Object.keys((await authenticate('cfw_one')) ?? {})).toEqual([
    'name',
    'scopes',
    'reach',
    'requestsPerSecond',
  ])
})

test('a credential may do what its scopes say; admin everything', async () => {
  const idp = { name: 'idp', scopes: new Set(['events:write']), reach: EVERYTHING, requestsPerSecond: null }
  expect(hasScope(idp, 'events:write')).toBe(true)
  expect(hasScope(idp, 'events:read')).toBe(false)
  expect(hasScope({ scopes: new Set(['admin']) }, 'events:read')).toBe(true)
})
