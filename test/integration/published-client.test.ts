import { readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { installPublished, linkNodeTypes, type PublishedApp } from '../support/published.ts'

// Goal: the package that developers of an IdP install works without this repository.
// Method: the package is built, packed as for publishing, and installed in another folder that has nothing else. The Node.js of
// the system runs it, and a compiler reads its types.

let published: PublishedApp

beforeAll(async () => {
  published = await installPublished('libs/client')
  await linkNodeTypes(published)
})
afterAll(() => published?.close())

test('the package has JavaScript, types, the license and the README, and depends on nothing', () => {
  const { files, manifest } = published
  for (const name of ['index', 'outbox/outbox', 'spool/spool'])
    expect(files).toEqual(expect.arrayContaining([`${name}.js`, `${name}.d.ts`]))
  expect(files).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'package.json']))
  expect(files.filter((name) => /test|fixture|tsconfig|(?<!\.d)\.ts$/.test(name))).toEqual([])
  expect(manifest.dependencies ?? {}).toEqual({})
  expect(manifest).not.toHaveProperty('private')
})

test('publint and Are The Types Wrong find no problem', async () => {
  expect(await published.problems()).toEqual([])
})

test('the outbox posts a logout again after a 503, under plain Node.js', async () => {
  const { stdout, stderr } = await published.runModule(
    `import { createServer } from 'node:http'
    import { createClient } from '@curfew/client'
    import { createOutbox } from '@curfew/client/outbox'
    import { openSpool } from '@curfew/client/spool'
    const seen = [typeof createClient, typeof openSpool]
    const server = createServer(async (request, response) => {
      const [event] = JSON.parse(await new Response(request).text())
      seen.push(event.sub)
      const accepted = JSON.stringify([{ id: event.id, status: 'accepted' }])
      seen.length === 3 ? response.writeHead(503).end() : response.writeHead(202).end(accepted)
    }).listen(0, '127.0.0.1', async () => {
      const url = 'http://127.0.0.1:' + server.address().port
      const outbox = await createOutbox({ url, key: 'k', directory: 'outbox', onError: ({ name }) => seen.push(name) })
      await outbox.post({ iss: 'https://idp.example', sub: 'ann' })
      await outbox.drain()
      await outbox.close()
      server.close()
      console.log(seen.join())
    })`,
  )
  expect([stdout.trim(), stderr]).toEqual(['function,function,ann,OutboxRetryError,ann', ''])
})

const APP = `import { ApiError, createClient, type LogoutEventInput, type Problem } from '@curfew/client'
import { createOutbox, type Outbox, SpoolFullError } from '@curfew/client/outbox'
import { openSpool, type Spool } from '@curfew/client/spool'
const event: LogoutEventInput = { iss: 'https://idp.example', sub: 'ann', reason: 'user' }
const rejected: [LogoutEventInput, Problem][] = []
const outbox: Outbox = await createOutbox({
  url: 'https://curfew.example',
  key: async () => 'k',
  directory: '/var/lib/idp/outbox',
  onRejected: (event, problem) => void rejected.push([event, problem]),
})
const { id } = await outbox.post(event)
const status: string = (await createClient({ url: 'https://curfew.example', key: 'k' }).getLogoutEvent(id)).status
const spool: Spool = await openSpool({ directory: 'spool' })
export const all = [ApiError, SpoolFullError, status, spool]
`

test.each([
  ['', APP, /^$/],
  [' and reject a wrong member', APP.replace("'user'", "'boredom'"), /boredom/],
])('types compile for a consumer in strict mode%s', async (_name, source, output) => {
  expect(await published.compile(source, ['--types', 'node'])).toMatch(output)
})

test('the types are those of the contract', async () => {
  const types = await readFile(join(published.built, 'contract.d.ts'), 'utf8')
  const names = [...types.matchAll(/^export type (\w+) =/gm)].map(([, name]) => name)
  expect(names.length).toBeGreaterThan(40)
  await writeFile(join(published.app, 'contract.d.ts'), types)
  const source = `import type * as Built from './contract.js'
    import type * as Contract from ${JSON.stringify(resolve('libs/contract/src/index.ts'))}
    type Deep<T> = T extends readonly (infer Item)[] ? Deep<Item>[] : T extends object ? { [Key in keyof T]-?: Deep<T[Key]> } : T
    type Within<A, B> = [A] extends [B] ? ([Deep<A>] extends [Deep<B>] ? true : 'another type') : 'another type'
    ${names.map((name) => `export const ${name}: [Within<Built.${name}, Contract.${name}>, Within<Contract.${name}, Built.${name}>] = [true, true]`).join('\n')}
  `
  expect(
    await published.compile(source, [
      '--types',
      'node',
      '--allowImportingTsExtensions',
      '--skipLibCheck',
      '--lib',
      'es2024',
    ]),
  ).toBe('')
})
