import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'

// Goal: the package that RP owners install works without this repository.
// Method: the package is built, packed as for publishing, and unpacked in another folder that has only jose. Node.js runs it, and
// a compiler reads its types.

const run = promisify(execFile)
const modules = resolve('node_modules')
let folder: string
let packed: { files: { path: string }[] }

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'curfew-published-'))
  const built = join(folder, 'built')
  const unpacked = join(folder, 'app/node_modules/@curfew/rp')
  await mkdir(unpacked, { recursive: true })
  await run(process.execPath, ['deploy/build-package.ts', 'libs/rp', built])
  const npm = { cwd: built, shell: process.platform === 'win32' }
  const { stdout } = await run('npm', ['pack', '--json', '--loglevel=error'], npm)
  const [answer] = Object.values(JSON.parse(stdout)) as ({ filename: string } & typeof packed)[]
  if (answer === undefined) throw new Error(`npm pack listed no package: ${stdout}`)
  packed = answer
  await run('tar', ['-xzf', join(built, answer.filename), '-C', unpacked, '--strip-components=1'])
  await symlink(join(modules, 'jose'), join(folder, 'app/node_modules/jose'), 'junction')
  await writeFile(join(folder, 'app/package.json'), '{ "type": "module" }')
})
afterAll(() => rm(folder, { recursive: true, force: true }))

test('the package has JavaScript, types, the license and the README, and depends only on jose', async () => {
  const names = packed.files.map(({ path }) => path)
  for (const name of ['index', 'express', 'fastify', 'hono', 'node'])
    expect(names).toEqual(expect.arrayContaining([`${name}.js`, `${name}.d.ts`]))
  expect(names).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'package.json']))
  expect(names.filter((name) => /test|fixture|tsconfig|(?<!\.d)\.ts$/.test(name))).toEqual([])
  const manifest = JSON.parse(
    await readFile(join(folder, 'app/node_modules/@curfew/rp/package.json'), 'utf8'),
  ) as Record<string, unknown>
  expect(Object.keys(manifest.dependencies as object)).toEqual(['jose'])
  expect(manifest).not.toHaveProperty('private')
})

test('the package verifies a token and refuses its replay under plain Node.js', async () => {
  await writeFile(
    join(folder, 'app/main.js'),
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
  const { stdout, stderr } = await run(process.execPath, ['main.js'], { cwd: join(folder, 'app') })
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
  await writeFile(join(folder, 'app/main.ts'), source)
  const options = [
    '--noEmit',
    '--strict',
    '--exactOptionalPropertyTypes',
    '--module',
    'nodenext',
    '--target',
    'es2022',
  ]
  const web = ['--lib', 'es2024,dom,dom.iterable,dom.asynciterable', '--types', '']
  const tsc = [join(modules, 'typescript/bin/tsc'), ...options, ...web, 'main.ts']
  const compiled = await run(process.execPath, tsc, { cwd: join(folder, 'app') }).catch((error) => error)
  expect(compiled.stdout).toMatch(output)
})
