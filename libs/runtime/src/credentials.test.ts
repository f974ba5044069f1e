import { EVERYTHING } from '@curfew/domain'
import { expect, test, vi } from 'vitest'
import { createApiKeyAuthenticator, createCredentials, hashApiKey, hasScope } from './credentials.ts'
import { createLog } from './log.ts'

const authenticate = createApiKeyAuthenticator([
  {
    name: 'idp',
    hash: hashApiKey('cfw_one'),
    scopes: new Set(['events:write']),
    access: EVERYTHING,
    requestsPerSecond: null,
    expiresAt: null,
  },
  {
    name: 'sre',
    hash: hashApiKey('cfw_two'),
    scopes: new Set(['admin']),
    access: EVERYTHING,
    requestsPerSecond: null,
    expiresAt: null,
  },
])

test('a key authenticates its credential, and no other token does', async () => {
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

test('a credential does not contain the hash of its key', async () => {
  expect(Object.keys((await authenticate('cfw_one')) ?? {})).toEqual([
    'name',
    'scopes',
    'access',
    'requestsPerSecond',
    'expiresAt',
  ])
})

test('a credential has the rights of its scopes, and admin has every right', async () => {
  const idp = {
    name: 'idp',
    scopes: new Set(['events:write']),
    access: EVERYTHING,
    requestsPerSecond: null,
    expiresAt: null,
  }
  expect(hasScope(idp, 'events:write')).toBe(true)
  expect(hasScope(idp, 'events:read')).toBe(false)
  expect(hasScope({ scopes: new Set(['admin']) }, 'events:read')).toBe(true)
})

test('the last use of a key is stored later when the store was unavailable', async () => {
  vi.useFakeTimers()
  try {
    const key = `cfw_${'a'.repeat(43)}`
    const noted: ReadonlyMap<string, Date>[] = []
    let unavailable = true
    const credentials = createCredentials({
      fixed: [],
      store: {
        revision: async () => 1,
        read: async () => ({
          revision: 1,
          keys: [
            {
              id: 'k1',
              name: 'idp',
              hash: hashApiKey(key),
              scopes: new Set(['events:write']),
              access: EVERYTHING,
              requestsPerSecond: null,
              expiresAt: null,
            },
          ],
          issuers: new Map(),
        }),
        async used(uses) {
          if (unavailable) throw new Error('unavailable')
          noted.push(uses)
        },
      },
      log: createLog({ service: 'test', level: 'silent' }),
      now: () => new Date(),
    })
    expect(await credentials.authenticate(key)).toMatchObject({ name: 'idp' })
    const usedAt = new Date()
    const stopping = new AbortController()
    const run = credentials.service.run({
      stopping: stopping.signal,
      abandoning: stopping.signal,
      ready: () => undefined,
    })
    await vi.advanceTimersByTimeAsync(15_000)
    expect(noted).toEqual([])
    unavailable = false
    await vi.advanceTimersByTimeAsync(30_000)
    // Only once: a stored use is not stored again.
    expect(noted).toEqual([new Map([['k1', usedAt]])])
    stopping.abort()
    await run
  } finally {
    vi.useRealTimers()
  }
})
