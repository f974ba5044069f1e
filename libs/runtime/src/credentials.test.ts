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
  },
  {
    name: 'sre',
    hash: hashApiKey('cfw_two'),
    scopes: new Set(['admin']),
    access: EVERYTHING,
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
    'access',
    'requestsPerSecond',
  ])
})

test('a credential may do what its scopes say; admin everything', async () => {
  const idp = { name: 'idp', scopes: new Set(['events:write']), access: EVERYTHING, requestsPerSecond: null }
  expect(hasScope(idp, 'events:write')).toBe(true)
  expect(hasScope(idp, 'events:read')).toBe(false)
  expect(hasScope({ scopes: new Set(['admin']) }, 'events:read')).toBe(true)
})

test('when a key was used is noted later where the store was away', async () => {
  vi.useFakeTimers()
  try {
    const key = `cfw_${'a'.repeat(43)}`
    const noted: ReadonlyMap<string, Date>[] = []
    let away = true
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
          if (away) throw new Error('away')
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
    away = false
    await vi.advanceTimersByTimeAsync(30_000)
    // Once: what was noted is not noted again.
    expect(noted).toEqual([new Map([['k1', usedAt]])])
    stopping.abort()
    await run
  } finally {
    vi.useRealTimers()
  }
})
