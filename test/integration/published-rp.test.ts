import { afterAll, beforeAll, expect, test } from 'vitest'
import { installPublished, type PublishedApp } from '../support/published.ts'

// Goal: the package that RP owners install works without this repository.
// Method: the package is built, packed as for publishing, and installed in another folder that has only jose. The Node.js of the
// system runs it, and a compiler reads its types.

let published: PublishedApp

beforeAll(async () => {
  published = await installPublished('libs/rp', ['jose'])
})
afterAll(() => published?.close())

test('the package has JavaScript, types, the license and the README, and depends only on jose', async () => {
  const { files: names, manifest } = published
  for (const name of ['index', 'express', 'fastify', 'hono', 'node'])
    expect(names).toEqual(expect.arrayContaining([`${name}.js`, `${name}.d.ts`]))
  expect(names).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'package.json']))
  expect(names.filter((name) => /test|fixture|tsconfig|(?<!\.d)\.ts$/.test(name))).toEqual([])
  expect(Object.keys(manifest.dependencies as object)).toEqual(['jose'])
  expect(manifest).not.toHaveProperty('private')
})

test('publint and Are The Types Wrong find no problem', async () => {
  expect(await published.problems()).toEqual([])
})

test('the package verifies a token and refuses its replay under plain Node.js', async () => {
  const { stdout, stderr } = await published.runModule(
    `import { exportJWK, generateKeyPair, SignJWT } from 'jose'
    import { createLogoutReceiver, LOGOUT_EVENT } from '@curfew/rp'
    for (const name of ['express', 'fastify', 'hono', 'node']) await import('@curfew/rp/' + name)
    const { publicKey, privateKey } = await generateKeyPair('ES256')
    const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid: 'k' }] }
    const token = await new SignJWT({ sub: 'alice', jti: 'j', events: { [LOGOUT_EVENT]: {} } })
      .setProtectedHeader({ alg: 'ES256', kid: 'k', typ: 'logout+jwt' })
      .setIssuer('https://idp.example').setAudience('shop').setIssuedAt().setExpirationTime('2m').sign(privateKey)
    const seen = []
    const receiver = createLogoutReceiver({
      issuer: 'https://idp.example', clientId: 'shop', jwks, onLogout: ({ subject }) => seen.push(subject),
    })
    for (let n = 0; n < 2; n++) {
      const body = new URLSearchParams({ logout_token: token })
      seen.push((await receiver.handle(new Request('https://shop.example/', { method: 'POST', body }))).status)
    }
    console.log(JSON.stringify(seen))`,
  )
  expect([stdout.trim(), stderr]).toEqual(['["alice",200,400]', ''])
})

const APP = `import { createLogoutReceiver, redisReplayStore, type Logout } from '@curfew/rp'
import { expressLogoutHandler } from '@curfew/rp/express'
import { fastifyLogout } from '@curfew/rp/fastify'
import { honoLogoutHandler } from '@curfew/rp/hono'
const ended: (string | null)[] = []
const receiver = createLogoutReceiver({
  issuer: 'https://idp.example',
  clientId: 'shop',
  onLogout: async ({ subject, sessionId }: Logout) => void ended.push(subject, sessionId),
  replayStore: redisReplayStore({ exists: async () => 0, setex: async () => 'OK' }),
})
const response: Promise<Response> = receiver.handle(new Request('https://shop.example/'))
export const all = [response, expressLogoutHandler(receiver), fastifyLogout, honoLogoutHandler(receiver)]
`

test.each([
  ['in strict mode with only the types of the web', APP, /^$/],
  ['and reject a missing option', APP.replace("clientId: 'shop',", ''), /clientId/],
])('types compile for a consumer %s', async (_name, source, output) => {
  const web = ['--lib', 'es2024,dom,dom.iterable,dom.asynciterable', '--types', '']
  expect(await published.compile(source, web)).toMatch(output)
})
