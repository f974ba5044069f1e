import { afterAll, beforeAll, expect, test } from 'vitest'
import { installPublished, linkNodeTypes, type PublishedApp } from '../support/published.ts'

// Goal: the package that owners of resource servers install works without this repository.
// Method: the package is built, packed as for publishing, and installed in another folder that has only jose. The Node.js of the
// system runs it, and a compiler reads its types.

const ENTRIES = ['express-jwt', 'express-oauth2-jwt-bearer', 'fastify-jwt', 'jose', 'session']
let published: PublishedApp

beforeAll(async () => {
  published = await installPublished('libs/rs', ['jose'])
})
afterAll(() => published?.close())

test('the package has JavaScript, types, the license and the README, and depends only on jose', async () => {
  const { files: names, manifest } = published
  for (const name of ['index', ...ENTRIES.map((entry) => `adapters/${entry}`)])
    expect(names).toEqual(expect.arrayContaining([`${name}.js`, `${name}.d.ts`]))
  expect(names).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'package.json']))
  expect(names.filter((name) => /test|fixture|tsconfig|(?<!\.d)\.ts$/.test(name))).toEqual([])
  expect(Object.keys(manifest.dependencies as object)).toEqual(['jose'])
  expect(manifest).not.toHaveProperty('private')
})

test('publint and Are The Types Wrong find no problem', async () => {
  expect(await published.problems()).toEqual([])
})

test('the package reads a feed and refuses a token under plain Node.js', async () => {
  const { stdout, stderr } = await published.runModule(
    `import { createHash } from 'node:crypto'
    import { createServer } from 'node:http'
    import { exportJWK, generateKeyPair, SignJWT } from 'jose'
    import { createRevocations } from '@curfew/rs'
    for (const name of ${JSON.stringify(ENTRIES)}) await import('@curfew/rs/' + name)
    const { publicKey, privateKey } = await generateKeyPair('ES256')
    const iss = 'https://idp.example'
    const now = Date.now() / 1000
    const key = createHash('sha256').update(iss + '\\0sid\\0s1\\0').digest().subarray(0, 16).toString('base64url')
    const feed = await new SignJWT({
      iss, iat: now, after: null, seq: 1, as_of: now, max_staleness: 30, max_token_ttl: 3600, issuer_before: null,
      entries: [[key, Math.floor(now)]],
    }).setProtectedHeader({ alg: 'ES256', kid: 'k', typ: 'revocations+jwt' }).sign(privateKey)
    const server = createServer(async (request, response) => {
      if (request.url === '/issuers/main/jwks.json')
        response.end(JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k' }] }))
      else if (!request.url.includes('after')) response.end(feed)
    }).listen(0, '127.0.0.1', async () => {
      const revocations = createRevocations({
        feed: 'http://127.0.0.1:' + server.address().port + '/v1/issuers/main/revocations',
        issuer: iss, key: 'cfw_test', onEvent: () => undefined,
      })
      revocations.start()
      await revocations.ready()
      const claims = { iss, sub: 'alice', iat: Math.floor(now) }
      console.log(revocations.isRevoked({ ...claims, sid: 's1' }), revocations.decide({ ...claims, sid: 's2' }, 'deny'))
      await revocations.stop()
      server.closeAllConnections()
      server.close()
    })`,
  )
  expect([stdout.trim(), stderr]).toEqual(['true live', ''])
})

const APP = `import { createRevocations, introspector, metricsText, type Decision } from '@curfew/rs'
import { expressJwtIsRevoked } from '@curfew/rs/express-jwt'
import { notRevoked } from '@curfew/rs/express-oauth2-jwt-bearer'
import { fastifyJwtTrusted } from '@curfew/rs/fastify-jwt'
import { createTokenVerifier } from '@curfew/rs/jose'
import { sessionGuard } from '@curfew/rs/session'
import { createRemoteJWKSet } from 'jose'
const revocations = createRevocations({
  feed: 'https://curfew.example/v1/issuers/main/revocations',
  issuer: 'https://idp.example',
  key: async () => 'cfw_key',
})
const introspect = introspector({ endpoint: 'https://idp.example/introspect', clientId: 'a', clientSecret: 'b' })
const decision: Decision = revocations.decide({ iss: 'https://idp.example', iat: 1, scope: 'a b' }, 'deny')
const guard = { revocations, introspect, whenStale: 'introspect' as const }
export const all = [
  ...[decision, metricsText(revocations), expressJwtIsRevoked(guard), notRevoked(guard), fastifyJwtTrusted(guard)],
  createTokenVerifier({
    ...guard,
    key: createRemoteJWKSet(new URL('https://idp.example/jwks')),
    verify: { issuer: 'https://idp.example', audience: 'orders' },
  }),
  sessionGuard({ revocations, claimsOf: () => null, onEnded: (_request, _response, next) => next() }),
]
`

test.each([
  ['in strict mode', APP, /^$/],
  ['and reject a missing option', APP.replace("key: async () => 'cfw_key',", ''), /key/],
  ['and reject a verifier without an audience', APP.replace(", audience: 'orders'", ''), /audience/],
])('types compile for a consumer %s', async (_name, source, output) => {
  await linkNodeTypes(published).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  expect(await published.compile(source, ['--types', 'node'])).toMatch(output)
})
