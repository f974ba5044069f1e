import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: an administrator of an IdP points every client to the relay, and back, with the calls that the command prints.
// Method: the real command against the real console. The printed calls are run in a shell against a stand-in of Keycloak's kcadm.sh,
// which changes an export by the grammar of its arguments, and against a stand-in of Hydra's admin API.

const PUBLIC = 'https://curfew.example'
const processes = useProcesses()
let curfew: Curfew
let folder: string
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, publicUrl: PUBLIC })
  folder = await mkdtemp(join(tmpdir(), 'curfew-relay-'))
  await mkdir(join(folder, 'bin'))
  await writeFile(join(folder, 'bin', 'kcadm.sh'), `#!${process.execPath}\n${KCADM}`)
  await chmod(join(folder, 'bin', 'kcadm.sh'), 0o755)
})
afterAll(async () => {
  await curfew.stop()
  await rm(folder, { recursive: true })
})

/** `get clients -q clientId=ID` and `update clients/ID -s KEY=VALUE`, as `kcadm.sh help` describes them, on the export in $EXPORT. */
const KCADM = `
const { readFileSync, writeFileSync } = require('node:fs')
const { parseArgs } = require('node:util')
const { values, positionals: [verb, path] } = parseArgs({
  allowPositionals: true,
  options: {
    realm: { type: 'string', short: 'r' }, query: { type: 'string', short: 'q' }, set: { type: 'string', short: 's' },
    fields: { type: 'string' }, format: { type: 'string' }, noquotes: { type: 'boolean' },
  },
})
const realm = JSON.parse(readFileSync(process.env.EXPORT, 'utf8'))
if (values.realm !== realm.realm) throw new Error('Realm not found: ' + values.realm)
const splitAtFirst = (text) => [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)]
if (verb === 'get' && path === 'clients' && values.fields === 'id' && values.format === 'csv' && values.noquotes) {
  const [name, value] = splitAtFirst(values.query)
  for (const client of realm.clients) if (client[name] === value) console.log(client.id)
} else if (verb === 'update') {
  const client = realm.clients.find(({ id }) => path === 'clients/' + id)
  if (client === undefined) throw new Error('Resource not found for url: ' + path)
  const [key, value] = splitAtFirst(values.set)
  const names = [...key.matchAll(/"([^"]+)"|([^.]+)/g)].map(([, quoted, plain]) => quoted ?? plain)
  const last = names.pop()
  names.reduce((node, name) => node[name], client)[last] = value
  writeFileSync(process.env.EXPORT, JSON.stringify(realm))
} else throw new Error('Unknown: ' + process.argv.join(' '))
`

const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  runCurfew(processes, ['rp', 'import', ...args], {
    CURFEW_URL: curfew.url,
    CURFEW_KEY: curfew.adminKey,
    ...env,
  })

/** Runs the calls for a product as `sh` does. @returns its exit status and output. */
async function runCalls(script: string, env: Readonly<Record<string, string>>) {
  const PATH = `${join(folder, 'bin')}${delimiter}${process.env.PATH}`
  const shell = spawn('sh', ['-c', script], { env: { PATH, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  const [stdout, stderr, [code]] = await Promise.all([
    text(shell.stdout),
    text(shell.stderr),
    once(shell, 'exit'),
  ])
  return { code, stdout, stderr }
}

async function file(name: string, content: unknown): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, JSON.stringify(content))
  return path
}

interface Output {
  readonly total?: number
  readonly notices?: readonly object[]
  readonly relay: {
    readonly direction: string
    readonly clients: readonly { readonly client_id: string; readonly uri: string }[]
    readonly left_out: readonly object[]
    readonly calls: readonly { readonly product: string; readonly script: string }[]
  }
}
const json = async (args: readonly string[]) => JSON.parse((await run([...args, '--json'])).stdout) as Output

/** The words after a heading of the output. */
const after = (output: string, heading: string) => output.slice(output.indexOf(heading) + heading.length)

const URIS = { shop: 'https://shop.example/logout', "it's": 'https://its.example/a?b=c&d' }
const RELAYED = { shop: `${PUBLIC}/relay/acme/shop`, "it's": `${PUBLIC}/relay/acme/it's` }
const realmWith = (uris: Readonly<Record<string, string>>) => ({
  realm: 'acme',
  clients: [
    ...Object.entries(uris).map(([clientId, uri]) => ({
      id: `id-of-${clientId}`,
      clientId,
      attributes: { 'backchannel.logout.url': uri, 'frontchannel.logout.url': uri },
    })),
    { id: 'id-of-account', clientId: 'account', attributes: {} },
  ],
})
async function urisIn(path: string): Promise<Readonly<Record<string, string | undefined>>> {
  const { clients } = JSON.parse(await readFile(path, 'utf8')) as ReturnType<typeof realmWith>
  return Object.fromEntries(
    clients
      .filter(({ clientId }) => clientId !== 'account')
      .map(({ clientId, attributes }) => [
        clientId,
        (attributes as Record<string, string>)['backchannel.logout.url'],
      ]),
  )
}

test('the calls for Keycloak point each client to the relay, and back', async () => {
  await curfew.client.putIssuer('acme', { iss: 'https://sso.example/realms/acme' })
  const path = await file('realm.json', realmWith(URIS))
  const dry = await run([path, '--issuer', 'acme', '--relay', '--dry-run'])
  expect(dry).toMatchObject({ code: 0, stderr: expect.not.stringContaining('CURFEW_PUBLIC_URL') })
  expect(dry.stdout).toMatch(/^3 clients at acme\. It would create 3, [\s\S]*\n\nSet the relay's URL as the /)
  expect(dry.stdout).toMatch(/^shop {4}https:\/\/curfew\.example\/relay\/acme\/shop$/m)
  expect((await curfew.client.listRelyingParties('acme')).items).toEqual([])

  const done = await run([path, '--issuer', 'acme', '--relay'])
  expect([done.code, done.stdout]).toEqual([
    0,
    dry.stdout.replace(/^.*\n/, () => `${done.stdout.split('\n')[0]}\n`),
  ])
  expect(done.stdout).not.toMatch(/^account /m)
  const set = await runCalls(after(done.stdout, 'In a shell, for Keycloak:\n'), { EXPORT: path })
  expect(set).toMatchObject({ code: 0, stderr: '' })
  expect(set.stdout).toBe(`shop ${RELAYED.shop}\nit's ${RELAYED["it's"]}\n`)
  expect(await urisIn(path)).toEqual(RELAYED)

  // The export is the one of the changed realm now.
  const again = await run([path, '--issuer', 'acme', '--relay'])
  expect(again.stdout).toMatch(
    /and left 3 unchanged\.\nKept the registered endpoint of 2 clients: the file has the relay's address\. Clients: shop, it's\n/,
  )
  expect(after(again.stdout, 'Set the relay')).toBe(after(done.stdout, 'Set the relay'))

  const restore = await run(['--issuer', 'acme', '--restore'])
  expect(restore.stdout).toMatch(/^Set the relying party's own URL as the /)
  const reset = await runCalls(after(restore.stdout, 'In a shell, for Keycloak:\n'), { EXPORT: path })
  expect(reset).toMatchObject({ code: 0, stderr: '' })
  expect(await urisIn(path)).toEqual(URIS)
})

test('--restore with a file imports nothing, and names only its clients', async () => {
  await curfew.client.putIssuer('some', { iss: 'https://some.example' })
  for (const clientId of ['a', 'b'])
    await curfew.client.putRelyingParty('some', clientId, {
      backchannel_logout_uri: `https://${clientId}.some.example/`,
    })
  const path = await file('some.json', [{ client_id: 'b' }, { client_id: 'unknown' }])
  const { relay, total } = await json([path, '--issuer', 'some', '--restore'])
  expect([total, relay.direction]).toEqual([undefined, 'restore'])
  const member = '/backchannel_logout_uri'
  expect(relay.clients).toEqual([{ client_id: 'b', format: 'oidc', member, uri: 'https://b.some.example/' }])
  const all = await json(['--issuer', 'some', '--relay'])
  expect(all.relay.clients.map(({ uri }) => uri)).toEqual([
    `${PUBLIC}/relay/some/a`,
    `${PUBLIC}/relay/some/b`,
  ])
})

test('the plan of an import names no client that --skip-invalid skips', async () => {
  await curfew.client.putIssuer('partly', { iss: 'https://partly.example' })
  await curfew.client.putRelyingParty('partly', 'moved', { backchannel_logout_uri: 'https://old.example/' })
  const path = await file('partly.json', [
    { client_id: 'valid', backchannel_logout_uri: 'https://valid.example/' },
    { client_id: 'faulty', backchannel_logout_uri: 'https://faulty.example/#top' },
    { client_id: 'moved', backchannel_logout_uri: 'https://new.example/#top' },
  ])
  for (const options of [['--dry-run'], []]) {
    const { relay } = await json([path, '--issuer', 'partly', '--relay', '--skip-invalid', ...options])
    expect(relay.clients.map(({ uri }) => uri)).toEqual([`${PUBLIC}/relay/partly/valid`])
  }
})

test('the plan of an import has disabled clients, but none that the import passes over', async () => {
  await curfew.client.putIssuer('ended', { iss: 'https://ended.example' })
  await curfew.client.putRelyingParty('ended', 'broken', { backchannel_logout_uri: 'https://old.example/' })
  const disabled = (clientId: string, uri: string) => ({
    ...{ clientId, protocol: 'openid-connect', enabled: false },
    attributes: { 'backchannel.logout.url': uri },
  })
  const path = await file('ended.json', [
    disabled('asleep', 'https://asleep.example/'),
    disabled('broken', 'https://broken.example/#top'),
    disabled('mute', ''),
  ])
  for (const options of [['--dry-run'], []]) {
    const { code, stdout } = await run([path, '--issuer', 'ended', '--relay', ...options])
    expect([code, stdout.match(/relay\/ended\/\w+$/gm)]).toEqual([0, ['relay/ended/asleep']])
    expect(stdout).toMatch(/^The IdP has disabled 1 client\. .* Clients: asleep$/m)
    expect(stdout).toMatch(/^Passed over .* \/attributes\/backchannel\.logout\.url must .* Names: broken$/m)
    expect(stdout).toMatch(/^Passed over .* without a logout URL\. Names: mute$/m)
  }
})

test('the calls for Hydra patch only the URI of each client', async () => {
  const patches: unknown[] = []
  const answer = async (request: IncomingMessage) =>
    patches.push([
      request.method,
      request.url,
      request.headers['content-type'],
      JSON.parse(await text(request)),
    ])
  const hydra = createServer((request, response) => void answer(request).then(() => response.end('{}')))
  hydra.listen(0, '127.0.0.1')
  await once(hydra, 'listening')
  try {
    await curfew.client.putIssuer('hydra', { iss: 'https://hydra.example/' })
    const client = { client_id: 'a/b', backchannel_logout_uri: 'https://ab.example/', skip_consent: false }
    const path = await file('hydra.json', [client])
    const { relay, total } = await json([path, '--issuer', 'hydra', '--relay'])
    expect([total, relay.calls.map(({ product }) => product)]).toEqual([1, ['Hydra']])
    const script = relay.calls[0]?.script ?? ''
    const { port } = hydra.address() as AddressInfo
    expect(await runCalls(script, {})).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Set HYDRA_ADMIN'),
    })
    const ran = await runCalls(script, { HYDRA_ADMIN: `http://127.0.0.1:${port}` })
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    const value = `${PUBLIC}/relay/hydra/a%2Fb`
    expect(patches).toEqual([
      [
        'PATCH',
        '/admin/clients/a%2Fb',
        'application/json',
        [{ op: 'replace', path: '/backchannel_logout_uri', value }],
      ],
    ])
  } finally {
    hydra.close()
    hydra.closeAllConnections()
  }
})

test('clients whose tokens the relay cannot take keep their own URL at the IdP', async () => {
  await curfew.client.putIssuer('sealed', { iss: 'https://sealed.example' })
  const path = await file('sealed.json', [
    {
      client_id: 'crm',
      backchannel_logout_uri: 'https://crm.example/',
      id_token_encrypted_response_alg: 'RSA-OAEP',
      jwks_uri: 'https://crm.example/jwks',
    },
    { client_id: 'mail', backchannel_logout_uri: 'https://mail.example/' },
  ])
  const { stdout } = await run([path, '--issuer', 'sealed', '--relay'])
  expect(stdout).toMatch(
    /keep their own URL at the IdP:\n\nCLIENT +WHY\ncrm +its logout tokens are encrypted \(RSA-OAEP\)/,
  )
  expect(stdout).not.toContain('relay/sealed/crm')
  const { notices, relay } = await json([path, '--issuer', 'sealed', '--relay', '--dry-run'])
  expect(notices).toMatchObject([{ code: 'relay_unreadable', client_ids: ['crm'] }])
  expect(relay).toMatchObject({ clients: [{ client_id: 'mail' }], left_out: [{ client_id: 'crm' }] })
  expect((await run([path, '--issuer', 'sealed'])).stdout).toMatch(
    /cannot take the logout tokens of 1 client.* crm$/m,
  )
})

test('an unknown address of the relay is reported before anything is imported, and --url replaces it', async () => {
  await using other = await openCurfew({ workers: 0 })
  await other.client.putIssuer('acme', { iss: 'https://other.example' })
  const env = { CURFEW_URL: other.url, CURFEW_KEY: other.adminKey }
  const path = await file('unknown.json', realmWith({ shop: URIS.shop }))
  for (const args of [
    [path, '--relay'],
    [path, '--relay', '--dry-run'],
  ])
    expect(await run([...args, '--issuer', 'acme'], env)).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^The address of the relay is unknown\. Set CURFEW_PUBLIC_URL .*--url/),
    })
  expect((await other.client.listRelyingParties('acme')).items).toEqual([])
  const given = await run([path, '--relay', '--issuer', 'acme', '--url', other.url], env)
  expect(given.stdout).toContain(`${other.url}/relay/acme/shop`)
  expect(given.stdout).toMatch(/^REALM='acme'$/m)
  expect(given.stderr).toContain('CURFEW_PUBLIC_URL is not set')
  expect((await run(['--restore', '--issuer', 'acme'], env)).stdout).toContain(URIS.shop)
})

test.each([
  { what: 'without a file', args: [], says: 'Give a file to import' },
  { what: 'with --dry-run alone', args: ['--relay', '--dry-run'], says: '--dry-run needs a file' },
  { what: 'with two files', args: ['a', 'b', '--relay'], says: 'Too many arguments' },
])('rp import $what is wrong usage', async ({ args, says }) => {
  expect(await run(args)).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(says) })
})
