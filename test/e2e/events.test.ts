import { expect, test } from 'vitest'
import { eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: an operator at a terminal, or a script, logs a user out and sees the result.
// Method: the real command against all services, with real relying parties.

const processes = useProcesses()

test('a logout is posted, and its settled event is shown', async () => {
  await using curfew = await openCurfew()
  await using mail = await openRelyingParty(curfew, { clientId: 'mail', metadata: { client_name: 'Mail' } })
  await using wiki = await openRelyingParty(curfew, { clientId: 'wiki' })
  const run = (...args: readonly string[]) =>
    runCurfew(processes, ['events', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })

  const posted = await run('post', '--iss', ISS, '--sub', 'alice', '--reason', 'admin', '--client', 'mail')
  expect(posted).toMatchObject({ code: 0, stderr: '' })
  const [, id = ''] = /^Accepted as (\S+)\.\n$/.exec(posted.stdout) ?? []
  const shown = await run('show', id, '--wait', '20')
  expect(shown).toMatchObject({ code: 0, stderr: '' })
  const typo = await run('post', '--iss', ISS, '--sub', 'alice', '--client', 'mail', '--client', 'typo')
  const [, typoId = ''] = /^Accepted as (\S+)\.\n$/.exec(typo.stdout) ?? []
  expect((await run('show', typoId, '--wait', '20')).stdout).toMatch(
    /^clients +mail, typo \(not registered\)$/m,
  )
  for (const line of [
    /^event +[0-9a-f-]{36}$/m,
    /^subject +alice$/m,
    /^reason +admin$/m,
    /^status +settled, after \d+ ms: 1 of 1 acknowledged$/m,
    /^in words +Signed out of Mail\.$/m,
    /^DELIVERY +CLIENT +CHANNEL +ENDPOINT +SESSION +STATE +LEVEL +ATTEMPTS +MS$/m,
    /^[0-9a-f-]{36} +mail +backchannel +main +\(all\) +acknowledged +done +1 +\d+$/m,
  ])
    expect(shown.stdout).toMatch(line)
  expect([mail.received.length, wiki.received.length]).toEqual([2, 0])
  expect(shown.stdout).not.toContain('LAST ERROR')

  mail.behave({ status: 400, body: '{"error":"invalid_request","error_description":"the key is unknown"}' })
  const failing = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: ['mail'] })
  await eventually(async () => {
    const { stdout } = await run('show', failing.id)
    expect(stdout).toMatch(/ ATTEMPTS +MS +LAST ERROR$/m)
    expect(stdout).toMatch(/ mail .* pending .* 400: invalid_request: the key is unknown$/m)
  })
  mail.behave(null)

  const device = [
    '--scope',
    'device',
    '--device',
    'phone',
    '--sid',
    's1',
    '--email',
    'carol@example.com',
    '--json',
  ]
  const ofDevice = await run('post', '--iss', ISS, '--sub', 'carol', ...device)
  const shownOfDevice = await run('show', (JSON.parse(ofDevice.stdout) as { id: string }).id, '--wait', '20')
  expect(shownOfDevice.stdout).toMatch(/^scope +device: phone$/m)
  expect(shownOfDevice.stdout).toMatch(/^email +carol@example\.com$/m)

  const own = '01938c2e-0000-7000-8000-000000000001'
  const again = await run('post', '--iss', ISS, '--sub', 'bob', '--id', own, '--json')
  expect(JSON.parse(again.stdout)).toMatchObject({ id: own, status: 'accepted' })
  const asJson = await run('show', own, '--wait', '20', '--json')
  expect(JSON.parse(asJson.stdout)).toMatchObject({ id: own, status: 'settled', acknowledged: 2, total: 2 })
})

test('of a relying party with several channels, it says what each stands in for and what counts', async () => {
  await using curfew = await openCurfew()
  const run = (...args: readonly string[]) =>
    runCurfew(processes, ['events', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })
  await curfew.client.putRelyingParty(ISSUER, 'two', {
    backchannel_logout_uri: 'https://two.example/logout',
    curfew: {
      channels: {
        backchannel: { enabled: false },
        global_revocation: {
          ...{ uri: 'https://two.example/revoke', fallback_for: 'backchannel', enabled: false },
        },
      },
    },
  })
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
  const { stdout } = await run('show', id, '--wait', '20')
  expect(stdout).toMatch(
    /^DELIVERY +CLIENT +CHANNEL +ENDPOINT +COUNTS +FALLBACK FOR +SESSION +STATE +LEVEL +ATTEMPTS +MS +LAST ERROR$/m,
  )
  expect(stdout).toMatch(/ two +backchannel +main +done +\(all\) +dead_lettered: binding_disabled +0 /)
  expect(stdout).toMatch(/ two +global_revocation +main +begun +backchannel +\(all\) +dead_lettered: /)
})

test('--issuer selects the event of an id that several issuers use', async () => {
  await using curfew = await openCurfew()
  await curfew.client.putIssuer('other', { iss: 'https://other.example' })
  const run = (...args: readonly string[]) =>
    runCurfew(processes, args, { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })
  const id = '01938c2e-0000-7000-8000-000000000002'
  await curfew.client.postLogoutEvent({ id, iss: ISS, sub: 'alice' })
  await curfew.client.postLogoutEvent({ id, iss: 'https://other.example', sub: 'bob' })
  const shown = await run('events', 'show', id, '--issuer', 'other', '--wait', '20')
  expect([shown.code, shown.stdout]).toEqual([0, expect.stringMatching(/^subject +bob$/m)])
  await run('events', 'show', id, '--issuer', 'main', '--wait', '20')
  for (const command of [
    ['events', 'show'],
    ['receipt', 'get'],
    ['issuer-logout', '--follow'],
  ]) {
    const { code, stderr } = await run(...command, id)
    expect([command, code, stderr]).toEqual([command, 1, expect.stringContaining(': main, other. Name one')])
  }
})

test('the issuer is inferred where only one is possible', async () => {
  await using curfew = await openCurfew({ workers: 0 })
  const run = (key: string, ...args: readonly string[]) =>
    runCurfew(processes, args, { CURFEW_URL: curfew.url, CURFEW_KEY: key })
  const post = ['events', 'post', '--sub', 'alice']
  // The only registered issuer.
  expect(await run(curfew.adminKey, ...post)).toMatchObject({ code: 0, stderr: '' })
  await curfew.client.putIssuer('other', { iss: 'https://other.example' })
  expect(await run(curfew.adminKey, ...post)).toEqual({
    code: 2,
    stdout: '',
    stderr: `There are several issuers. Give --iss ISS: ${ISS}, https://other.example\nSee curfew events post --help\n`,
  })
  expect(await run(curfew.adminKey, 'sessions', 'list', '--sub', 'alice')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('There are several issuers. Give --iss ISS'),
  })
  // The issuer of the key.
  const { key } = await curfew.client.createApiKey({
    name: 'idp',
    scopes: ['events:write', 'clients:read', 'sessions:write', 'events:read', 'ledger:read'],
    issuer: 'other',
  })
  const writer = await curfew.client.createApiKey({
    ...{ name: 'writer', scopes: ['events:write'], issuer: 'other' },
  })
  expect(await run(writer.key, ...post)).toMatchObject({ code: 0, stderr: '' })
  expect(await run(key, ...post)).toMatchObject({ code: 0, stderr: '' })
  expect(await run(key, 'sessions', 'list', '--sub', 'alice')).toMatchObject({ code: 0, stderr: '' })
  expect(await run(key, 'rp', 'list')).toMatchObject({ code: 0, stdout: 'No relying parties at other.\n' })
  // The issuer of the clients that the key is bound to.
  await curfew.client.putRelyingParty('other', 'mail', { backchannel_logout_uri: 'https://mail.example/' })
  const owner = await curfew.client.createApiKey({
    ...{ name: 'owner', scopes: ['clients:read'], issuer: 'other', clients: ['mail'] },
  })
  expect((await run(owner.key, 'rp', 'show', 'mail')).stdout).toMatch(/\(other\/mail\)$/m)
  // Neither a bound issuer nor the right to list them.
  const free = await curfew.client.createApiKey({ name: 'free', scopes: ['events:write'] })
  expect(await run(free.key, ...post)).toEqual({
    code: 2,
    stdout: '',
    stderr:
      'This key is bound to no issuer, and may not list issuers. Give --iss ISS.\nSee curfew events post --help\n',
  })
})

test('a wrong command is reported with its exit status', async () => {
  await using curfew = await openCurfew({ workers: 0 })
  const run = (...args: readonly string[]) =>
    runCurfew(processes, ['events', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })
  expect((await run('post', '--iss', ISS)).stderr).toContain('Give --sub')
  expect(await run('post', '--iss', ISS, '--sub', 'x', '--lane', 'fast')).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringMatching(/^Curfew answered 400: \/lane .*\nSee curfew events post --help\n$/),
  })
  expect((await run('show', 'x', '--wait', '31')).code).toBe(2)
  const none = await run('show', '01938c2e-0000-7000-8000-000000000009')
  expect(none).toMatchObject({ code: 1, stdout: '' })
  expect(none.stderr).toContain('Curfew answered 404')
})
