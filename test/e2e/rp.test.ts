import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Imported, RelyingParty, RelyingPartyHealth } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'
import { openRelyingParty, type RelyingParty as Receiver } from '../support/relying-party.ts'

// Goal: an RP owner at a terminal, or a script, lists, changes, imports and exports relying parties, and sees their health.
// Method: the real command against all services.

const processes = useProcesses()
let curfew: Curfew
let shop: Receiver
let folder: string
beforeAll(async () => {
  curfew = await openCurfew()
  shop = await openRelyingParty(curfew, { clientId: 'shop', metadata: { client_name: 'Web shop' } })
  folder = await mkdtemp(join(tmpdir(), 'curfew-rp-'))
})
afterAll(async () => {
  await curfew.stop()
  await shop.close()
  await rm(folder, { recursive: true })
})

const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  runCurfew(processes, ['rp', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey, ...env })
const json = async <Answer>(args: readonly string[]) =>
  JSON.parse((await run([...args, '--json'])).stdout) as Answer

async function file(name: string, content: unknown): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content, null, 2))
  return path
}

test('a relying party is listed, shown, put and deleted', async () => {
  const listed = await run(['list'])
  expect(listed).toMatchObject({ code: 0, stderr: '' })
  expect(listed.stdout).toMatch(/^shop +Web shop +yes +backchannel +http:/m)
  const path = await file('wiki.json', {
    clientId: 'wiki',
    name: 'Wiki',
    secret: 'hush',
    attributes: { 'backchannel.logout.url': 'https://wiki.example/logout' },
  })
  const put = await run(['put', path])
  expect(put).toMatchObject({ code: 0, stderr: '' })
  expect(put.stdout).toMatch(/^relying party +Wiki \(main\/wiki\)$/m)
  expect(put.stdout).toMatch(/^read as +keycloak$/m)
  expect(put.stdout).toMatch(/^backchannel +main +either +yes +https:\/\/wiki.example\/logout$/m)
  const unread = await file('unread.json', {
    ...{ clientId: 'legacy', protocol: 'openid-connect', adminUrl: 'https://legacy.example/admin' },
  })
  const legacy = await run(['put', unread])
  expect(legacy.stdout).toContain('It has no endpoint, so it is not notified.\n')
  expect(legacy.stdout).toMatch(/^The adminUrl of legacy takes messages of Keycloak's adapters, not .*$/m)
  expect((await run(['delete', 'legacy'])).code).toBe(0)
  expect(await json<RelyingParty>(['show', 'wiki'])).toMatchObject({ clientId: 'wiki', name: 'Wiki' })
  expect((await run(['delete', 'wiki'])).stdout).toBe('Removed wiki from main.\n')
  expect(await run(['show', 'wiki'])).toMatchObject({
    code: 1,
    stdout: '',
    stderr: 'Curfew answered 404: No relying party wiki is registered at main.\n',
  })
  const faulty = await file('faulty.json', { backchannel_logout_uri: 'https://wiki.example/#top' })
  expect((await run(['put', faulty])).code).toBe(2)
  const refused = await run(['put', faulty, '--client', 'wiki'])
  expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('/backchannel_logout_uri must')])
})

test('a relying party or one of its endpoints is disabled and enabled', async () => {
  await curfew.client.putRelyingParty(ISSUER, 'pods', {
    curfew: {
      endpoints: ['a', 'b'].map((name) => ({ name, uri: `https://${name}.pods.example/` })),
    },
  })
  const off = await run(['disable', 'pods', '--endpoint', 'b'])
  expect(off.code).toBe(0)
  expect(off.stdout).toMatch(
    /^backchannel +a +either +yes .*\nbackchannel +b +either +no: disabled by its owner /m,
  )
  expect((await json<RelyingParty>(['disable', 'pods'])).status.enabled).toBe(false)
  expect(
    (await json<RelyingParty>(['enable', 'pods'])).status.endpoints.map(({ enabled }) => enabled),
  ).toEqual([true, false])
  expect((await json<RelyingParty>(['enable', 'pods', '--endpoint', 'b'])).status.endpoints[1]?.enabled).toBe(
    true,
  )
  expect(await run(['enable', 'pods', '--endpoint', 'c'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^The relying party has no endpoint c /),
  })
})

test('disable and enable, all channels or one', async () => {
  await curfew.client.putRelyingParty(ISSUER, 'two', {
    backchannel_logout_uri: 'https://two.example/logout',
    curfew: {
      channels: { global_revocation: { uri: 'https://two.example/revoke', fallback_for: 'backchannel' } },
    },
  })
  const off = await run(['disable', 'two', '--channel', 'global_revocation'])
  expect(off.stdout).toMatch(
    /^CHANNEL +ENDPOINT +NAMES +COUNTS +FALLBACK FOR +ENABLED +URI\nbackchannel +main +either +done +yes .*\nglobal_revocation +main +subject +begun +backchannel +no: /m,
  )
  expect((await run(['list'])).stdout).toMatch(
    /^two +yes +backchannel global_revocation \(disabled\) +https:/m,
  )
  const enabled = async (...args: string[]) =>
    (await json<RelyingParty>(args)).status.endpoints.map((endpoint) => endpoint.enabled)
  expect(await enabled('enable', 'two', '--channel', 'global_revocation')).toEqual([true, true])
  expect(await enabled('disable', 'two')).toEqual([false, false])
  expect(await enabled('enable', 'two', '--channel', 'global_revocation')).toEqual([false, true])
  expect(await enabled('enable', 'two')).toEqual([true, true])
  expect(await run(['disable', 'two', '--channel', 'saml'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(
      /^two has no channel saml\. Its channels: backchannel, global_revocation\.\n/,
    ),
  })
  expect((await run(['enable', 'two', '--channel', 'backchannel', '--endpoint', 'b'])).code).toBe(2)
})

test('health shows the breaker, the backlog and the latencies of each endpoint', async () => {
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: ['shop'] })
  await curfew.client.getLogoutEvent(id, { wait: 20 })
  await eventually(async () =>
    expect(await curfew.client.getRelyingPartyHealth(ISSUER, 'shop')).toMatchObject({ waiting: 0 }),
  )
  const { endpoints } = await json<RelyingPartyHealth>(['health', 'shop'])
  expect(endpoints).toEqual([
    {
      channel: 'backchannel',
      name: 'main',
      uri: shop.uri,
      enabled: true,
      disabled_reason: null,
      breaker: { state: 'closed', opened_at: null },
      waiting: 0,
      waiting_since: null,
      settled: 1,
      share_acknowledged: 1,
      share_already_ended: 0,
      last_acknowledged_at: expect.stringMatching(/^\d{4}-/),
      last_error: null,
      elapsed_ms: { p50: expect.any(Number), p95: expect.any(Number), p99: expect.any(Number) },
    },
  ])
  expect((await run(['health', 'shop'])).stdout).toMatch(
    /^backchannel +main +yes +closed +0 +100\.0 % +\d{4}-/m,
  )
  expect((await run(['health', 'unknown'])).code).toBe(1)
  shop.behave({ status: 400, body: '{"error":"invalid_request"}' })
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: ['shop'] })
  await eventually(async () =>
    expect((await run(['health', 'shop'])).stdout).toMatch(
      /^backchannel +main .* \d{4}-\d\d-\d\d [\d:]{8} +400: invalid_request$/m,
    ),
  )
  shop.behave(null)
  await curfew.db.query(
    `insert into breakers (binding_id, worker_id)
     select b.id, w.id from bindings b, workers w where b.uri = $1 limit 1`,
    [shop.uri],
  )
  expect((await run(['health', 'shop'])).stdout).toMatch(/^backchannel +main +yes +open /m)
})

test('health shows the share of logouts that an endpoint answered with a registered error', async () => {
  const rp = await openRelyingParty(curfew, {
    clientId: 'forgetful',
    metadata: { curfew: { already_ended_errors: ['unknown_session'] } },
  })
  try {
    for (const body of ['{"error":"unknown_session"}', null]) {
      rp.behave(body === null ? null : { status: 400, body })
      const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: ['forgetful'] })
      expect(await curfew.client.getLogoutEvent(id, { wait: 20 })).toMatchObject({ status: 'settled' })
    }
    const { stdout } = await run(['health', 'forgetful'])
    expect(stdout).toMatch(/^CHANNEL .* ACKNOWLEDGED +ALREADY ENDED /m)
    expect(stdout).toMatch(/^backchannel +main .* 100\.0 % +50\.0 % /m)
  } finally {
    await rp.close()
  }
})

describe('import and export', () => {
  const clients = Array.from({ length: 3_000 }, (_, index) => ({
    client_id: `client-${index}`,
    backchannel_logout_uri: `https://c${index}.example/logout`,
    redirect_uris: [`https://c${index}.example/callback`],
  }))

  test('of thousands of clients show progress and a report, and an export can be imported again', async () => {
    await curfew.client.putIssuer('many', { iss: 'https://many.example' })
    const path = await file('clients.ndjson', clients.map((client) => `${JSON.stringify(client)}\n`).join(''))
    const dry = await run(['import', path, '--issuer', 'many', '--dry-run'])
    const notified = '3000 of 3000 clients have an endpoint: 3000 backchannel.\n'
    expect(dry.stdout).toBe(
      `3000 clients at many. It would create 3000, change 0, and leave 0 unchanged.\n${notified}`,
    )
    const done = await run(['import', path, '--issuer', 'many'])
    expect([done.code, done.stdout]).toEqual([
      0,
      `3000 clients at many. Created 3000, changed 0, and left 0 unchanged.\n${notified}`,
    ])
    expect(done.stderr).toMatch(/^\[#{30}\] 100 % {2}\d+ of \d+ KiB sent\n$/m)
    const exported = await run(['export', '--issuer', 'many'])
    expect(exported.stdout.trimEnd().split('\n')).toHaveLength(3_000)
    const again = await file('again.ndjson', exported.stdout)
    expect(await json<Imported>(['import', again, '--issuer', 'many'])).toMatchObject({ unchanged: 3_000 })
    expect((await run(['list'])).stderr).toMatch(
      /^There are several issuers\. Give --issuer NAME: .*\bmany\b/,
    )
    await curfew.db.query("update issuers set deleted_at = now() where name = 'many'")
  })

  test('with faults print a table with their places in the file, and exit with 2', async () => {
    const path = await file('realm.json', {
      realm: 'acme',
      clients: [
        { clientId: 'fine', attributes: { 'backchannel.logout.url': 'https://fine.example/' } },
        { clientId: 'plain', attributes: { 'backchannel.logout.url': 'https://plain.example/#top' } },
      ],
    })
    const { code, stdout, stderr } = await run(['import', path])
    expect(code).toBe(2)
    expect(stdout).toMatch(
      /^CLIENT +WHERE +WHAT\nplain +\/clients\/1\/attributes\/backchannel\.logout\.url +must not have a fragment/,
    )
    expect(stderr).toContain('1 of 2 clients has faults. Nothing was changed.')
    const machine = await run(['import', path, '--json'])
    expect([machine.code, JSON.parse(machine.stdout)]).toMatchObject([
      2,
      { status: 400, faults: [{ line: null, where: '/clients/1/attributes/backchannel.logout.url' }] },
    ])
    expect((await run(['show', 'fine'])).code).toBe(1)
  })

  test('with --skip-invalid register the other clients, list the skipped ones, and exit with 1', async () => {
    await curfew.client.putIssuer('skipping', { iss: 'https://skipping.example' })
    const apps = [
      {
        label: 'Portal',
        signOnMode: 'OPENID_CONNECT',
        credentials: { oauthClient: { client_id: 'portal' } },
      },
      { label: 'Slack', signOnMode: 'SAML_2_0', settings: { app: {} } },
      { client_id: 'torn', backchannel_logout_uri: 'https://torn.example/#top' },
      { client_name: 'Nameless', backchannel_logout_uri: 'https://nameless.example/logout' },
      { ClientId: 'desk', BackChannelLogoutUri: 'https://desk.example/logout' },
    ]
    // PowerShell writes UTF-16 with a byte order mark.
    const path = join(folder, 'apps.json')
    await writeFile(path, `\ufeff${JSON.stringify(apps, null, 2)}`, 'utf16le')
    const args = ['import', path, '--issuer', 'skipping', '--skip-invalid']
    const { code, stdout } = await run(args)
    expect(code).toBe(1)
    expect(stdout).toMatch(/^2 clients at skipping\. Created 2, /)
    expect(stdout).toContain(
      'Passed over 1 application without an OAuth client. Names: Slack\nSkipped 2 clients with faults:\n',
    )
    expect(stdout).toMatch(/^torn +\/2\/backchannel_logout_uri +must not have a fragment/m)
    expect(stdout).toMatch(/^Nameless +\/3\/client_id +is missing$/m)
    expect(stdout).toMatch(/\n1 of 2 clients has an endpoint: 1 backchannel\.\n$/)
    const { skipped } = await json<Imported>(args)
    expect(skipped).toMatchObject({ total: 2, faults: [{ client: 'torn' }, { client: 'Nameless' }] })
    await curfew.db.query("update issuers set deleted_at = now() where name = 'skipping'")
  })

  test('name the applications that they pass over', async () => {
    const path = await file('mixed.json', [
      { id: '0oa1', label: 'Pay roll', signOnMode: 'SAML_2_0' },
      { clientId: 'old', enabled: false, protocol: 'openid-connect' },
      { clientId: 'older', enabled: false, protocol: 'openid-connect' },
    ])
    const { code, stdout } = await run(['import', path, '--issuer', ISSUER, '--dry-run'])
    expect([code, stdout]).toEqual([
      0,
      expect.stringMatching(
        /^Passed over 1 application without an OAuth client\. Names: Pay roll\nPassed over 2 clients that the IdP has disabled, without a logout URL\. Names: old, older$/m,
      ),
    ])
  })

  test('of YAML are refused once, with the way to convert it', async () => {
    const path = await file('realm.yaml', 'realm: acme\nclients:\n  - clientId: shop\n')
    expect(await run(['import', path])).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^.*realm\.yaml is YAML, .* yq -o=json/),
    })
  })

  test('without the scope, or with a missing file, are reported', async () => {
    const key = curfew.keyFor('clients:read')
    const path = await file(
      'large.ndjson',
      clients
        .map((client) => `${JSON.stringify(client)}\n`)
        .join('')
        .repeat(9),
    )
    const refused = await run(['import', path, '--issuer', ISSUER], { CURFEW_KEY: key })
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining('This needs the scope clients:write'),
    ])
    expect(await run(['import', join(folder, 'none')])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/cannot be read/),
    })
    expect((await run(['import'])).code).toBe(2)
  })
})
