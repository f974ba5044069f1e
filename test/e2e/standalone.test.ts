import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createClient } from '@curfew/client'
import { describe, expect, onTestFinished, test } from 'vitest'
import { serversOf, spawnStandalone, startStandalone, useProcesses } from '../support/processes.ts'
import { promtoolComplaints } from '../support/promtool.ts'

// Goal: `curfew up` works for a new user as the README promises, from the first start to the last Ctrl-C.
// Method: the real command in a real process, and a real shell for the commands that a user pastes.

const processes = useProcesses()
const ISS = 'https://idp.example'
/** The longest allowed stop, with time for a busy machine. */
const STOP_MS = 8_000

/** Finds the first curl command with `text` in the output, over several lines if need be. */
function curlWith(text: string, output: string): string {
  const commands = output.match(/^ *curl(?:.*\\\n)*.*$/gm) ?? []
  const found = commands.find((command) => command.includes(text))
  if (found === undefined) throw new Error(`no curl command with ${text} in:\n${output}`)
  return found
}

/** Pastes a command into a shell. */
async function paste(command: string): Promise<Record<string, unknown>> {
  const { stdout } = await promisify(execFile)('bash', ['-c', command], { timeout: 60_000 })
  return JSON.parse(stdout) as Record<string, unknown>
}

/** Opens a relying party that counts requests, and answers or hangs. */
async function openRp(answer: 'hang' | 'ok') {
  const rp = { answer, requests: 0, uri: '' }
  const server = createServer((_request, response) => {
    rp.requests++
    if (rp.answer === 'ok') response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  rp.uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/logout`
  return rp
}

describe('the first start', () => {
  test('at a terminal prints the URL, the admin key once, and a curl command that works when pasted', async () => {
    const dataFolder = await processes.dataFolder()
    const process = spawnStandalone(processes, { dataFolder, terminal: true })
    const [, url = ''] = await process.says(/Curfew is up at (http:\/\/127\.0\.0\.1:\d+) /)
    await process.says(/^ *curl .*\n.*\n.*-d .*$/m)
    expect(process.stdout.match(/^ *cfw_[\w-]{43}$/gm)).toHaveLength(1)
    const [adminKey = ''] = /cfw_\S+/.exec(process.stdout) ?? []
    expect(readdirSync(dataFolder)).not.toContain('admin-key')
    expect(process.stderr).not.toContain(adminKey)
    const client = createClient({ url, key: adminKey })
    const posted = await paste(curlWith('/v1/logout-events', process.stdout))
    expect(posted).toMatchObject({ status: 'accepted', id: expect.any(String) })
    expect(await client.getLogoutEvent(String(posted.id), { wait: 10 })).toMatchObject({
      sub: 'alice',
      plan_basis: 'unknown_issuer',
      status: 'settled',
    })
    expect((await fetch(`${url}/readyz`)).status).toBe(200)
  })

  test('without a terminal prints nothing but JSON on standard error, and leaves the admin key in a file', async () => {
    const dataFolder = await processes.dataFolder()
    const { process, url, adminKey, client } = await startStandalone(processes, { dataFolder })
    expect(adminKey).toMatch(/^cfw_[\w-]{43}$/)
    await client.putIssuer('main', { iss: ISS })
    process.signal('SIGTERM')
    expect(await process.exit(STOP_MS)).toEqual({ code: 0, signal: null })
    expect(process.stdout).toBe('')
    expect(process.stderr).not.toContain('cfw_')
    const lines = process.stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    const of = (event: string) => lines.find((line) => line.event === event)
    expect(lines[0]).toMatchObject({
      event: 'process.started',
      event_log: 'postgresql',
      database: 'embedded',
    })
    expect(of('server.listening')).toMatchObject({ url })
    expect(of('admin-key.generated')).toMatchObject({ level: 'warn', path: join(dataFolder, 'admin-key') })
    expect(of('process.stopping')).toMatchObject({ why: 'SIGTERM' })
    expect(lines.at(-1)).toMatchObject({ event: 'process.stopped', status: 0 })
  })

  test('makes its secrets readable only for the owner of the folder, and logs no admin key', async () => {
    const dataFolder = await processes.dataFolder()
    const { process, adminKey } = await startStandalone(processes, {
      dataFolder,
      env: { LOG_LEVEL: 'debug' },
    })
    const secrets = [
      'master-key',
      'admin-key',
      'admin-key.sha256',
      join('postgres', 'cluster', 'curfew-password'),
    ]
    for (const name of secrets) {
      expect(`${name} ${(statSync(join(dataFolder, name)).mode & 0o777).toString(8)}`).toBe(`${name} 600`)
    }
    expect(readdirSync(dataFolder).filter((name) => name.endsWith('.new'))).toEqual([])
    expect(process.stderr).toContain('server.listening')
    expect(process.stderr).not.toContain(adminKey)
  })

  test('with a port in use fails with one line, leaves no database server, and keeps the admin key for the next start', async () => {
    const dataFolder = await processes.dataFolder()
    const other = await openRp('ok')
    const port = new URL(other.uri).port
    const says = `127.0.0.1:${port} is in use by another process; stop that process, or set another port with CURFEW_PORT`
    for (const terminal of [true, false]) {
      const refused = spawnStandalone(processes, { dataFolder, terminal, env: { CURFEW_PORT: port } })
      expect(await refused.exit()).toEqual({ code: 1, signal: null })
      const lines = refused.stderr.trimEnd().split('\n')
      if (terminal) expect(lines.at(-1)).toBe(says)
      else expect(lines.map((line) => JSON.parse(line).msg)).toContain(says)
      expect(refused.stdout).toBe('')
      expect(serversOf(dataFolder)).toEqual([])
    }

    const { adminKey, client } = await startStandalone(processes, { dataFolder })
    expect(adminKey).not.toBeNull()
    await client.putIssuer('main', { iss: ISS })
  })
})

describe('the demo', () => {
  test('fills its table, delivers a pasted logout, and ends with Ctrl-C', async () => {
    const dataFolder = await processes.dataFolder()
    const demo = spawnStandalone(processes, { dataFolder, args: ['--demo'] })
    await demo.says(/Ctrl-C stops everything/)
    const table = demo.stdout.slice(demo.stdout.lastIndexOf('relying party  ')).split('\n').slice(1, 4)
    expect(table.map((row) => row.trim().split(/ {2,}/).slice(0, 4))).toEqual([
      ['Mail', 'healthy', 'acknowledged', '1'],
      ['Wiki', 'slow', 'acknowledged', '1'],
      ['CRM', 'fails its first two tries', 'acknowledged', '3'],
    ])
    const { id } = await paste(curlWith('"sub":"bob"', demo.stdout))
    const result = await paste(curlWith('?wait=10', demo.stdout).replace('/ID?', `/${String(id)}?`))
    expect(result).toMatchObject({ sub: 'bob', status: 'settled', acknowledged: 3, total: 3 })
    const [show = ''] = /^ *CURFEW_URL=.*npx curfew events show .*$/m.exec(demo.stdout) ?? []
    const shown = await promisify(execFile)('bash', ['-c', show], { timeout: 60_000 })
    expect(shown.stdout).toMatch(/^subject +alice$/m)
    expect(shown.stdout).toMatch(/^status +settled.*: 3 of 3 acknowledged$/m)
    // Nothing is wrong with a fresh demo, and `doctor` says so.
    const doctor = await promisify(execFile)('bash', ['-c', show.replace(/ events show .*/, ' doctor')], {
      timeout: 60_000,
    })
    expect(doctor.stdout).toMatch(/^note +main: discovery +.*reserved for examples/m)
    expect(doctor.stdout).toMatch(/^ok +live processes +1 delivery worker and 1 bookkeeper$/m)
    // A standalone has the metrics of all services, each once.
    const [url = ''] = /http:\/\/127\.0\.0\.1:\d+/.exec(demo.stdout) ?? []
    const metrics = await (await fetch(`${url}/metrics`)).text()
    expect(metrics).toMatch(/^curfew_workers_alive 1$/m)
    expect(metrics).toMatch(/^curfew_clock_offset_seconds /m)
    expect(await promtoolComplaints(metrics)).toBe('')
    // The demo and the README use the same issuer, main, so a user can try both together.
    const [, readme] = curlWith('"sub":"bob"', demo.stdout).match(/^(.*?) -d /s) ?? []
    const put = `${readme?.replace('/v1/logout-events', '/v1/issuers/main')} -X PUT -d '{ "iss": "https://idp.example", "session_index": "off" }'`
    expect(await paste(put)).toMatchObject({ name: 'main', iss: 'https://idp.example' })
    // The demo writes no log to the terminal.
    expect(demo.stderr).toBe('')

    demo.signal('SIGINT')
    expect(await demo.exit(STOP_MS)).toEqual({ code: 0, signal: null })
    expect(serversOf(dataFolder)).toEqual([])

    const again = spawnStandalone(processes, { dataFolder, args: ['--demo'] })
    await again.says(/Ctrl-C stops everything/)
    const [, call] = curlWith('"sub":"bob"', again.stdout).match(/^(.*?) -d /s) ?? []
    const issuer = await paste(call?.replace('/v1/logout-events', '/v1/issuers/main') ?? '')
    expect(issuer).toMatchObject({ session_index: 'off' })
    again.signal('SIGINT')
    expect(await again.exit(STOP_MS)).toEqual({ code: 0, signal: null })
  })

  test('ends at once and without an error when it is stopped while the table fills', async () => {
    const dataFolder = await processes.dataFolder()
    const demo = spawnStandalone(processes, { dataFolder, args: ['--demo'] })
    await demo.says(/Wiki .*in_flight/)
    demo.signal('SIGINT')
    expect(await demo.exit(STOP_MS)).toEqual({ code: 0, signal: null })
    expect(demo.stdout).not.toContain('Ctrl-C stops everything')
    expect(demo.stderr).toBe('')
    expect(serversOf(dataFolder)).toEqual([])
  })
})

describe('a stop', () => {
  test('keeps its deadline while a relying party hangs, and the next start delivers the logout', async () => {
    const dataFolder = await processes.dataFolder()
    const env = { CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8', CURFEW_STOP_DEADLINE_MS: '500' }
    const first = await startStandalone(processes, { dataFolder, env })
    const rp = await openRp('hang')
    await first.client.putIssuer('main', { iss: ISS })
    await first.client.putRelyingParty('main', 'slow', {
      backchannel_logout_uri: rp.uri,
      id_token_signed_response_alg: 'ES256',
      curfew: { timeout_ms: 30_000 },
    })
    const { id } = await first.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
    await expect.poll(() => rp.requests, { timeout: 10_000 }).toBe(1)
    const stoppedMs = performance.now()
    first.process.signal('SIGINT')
    expect(await first.process.exit(STOP_MS)).toEqual({ code: 0, signal: null })
    expect(performance.now() - stoppedMs).toBeGreaterThan(400)
    expect(serversOf(dataFolder)).toEqual([])

    rp.answer = 'ok'
    const second = await startStandalone(processes, { dataFolder, env, adminKey: first.adminKey })
    expect(await second.client.getLogoutEvent(id, { wait: 20 })).toMatchObject({ acknowledged: 1, total: 1 })
  })

  test('by SIGTERM works even during the start', async () => {
    const dataFolder = await processes.dataFolder()
    const early = spawnStandalone(processes, { dataFolder, env: { LOG_LEVEL: 'info' } })
    await early.says(/ledger\.migrated/)
    early.signal('SIGTERM')
    expect(await early.exit(STOP_MS)).toEqual({ code: 0, signal: null })
    expect(serversOf(dataFolder)).toEqual([])
  })
})

describe('a second start', () => {
  test('has the events and relying parties of the first, makes no other key, and accepts the first', async () => {
    const dataFolder = await processes.dataFolder()
    const env = { CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8' }
    const first = await startStandalone(processes, { dataFolder, env })
    const rp = await openRp('ok')
    await first.client.putIssuer('main', { iss: ISS })
    await first.client.putRelyingParty('main', 'mail', { backchannel_logout_uri: rp.uri })
    const { id } = await first.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
    const before = await first.client.getLogoutEvent(id, { wait: 10 })
    const jwks = await first.client.getJwks('main')
    first.process.signal('SIGINT')
    expect(await first.process.exit(STOP_MS)).toEqual({ code: 0, signal: null })

    const second = await startStandalone(processes, { dataFolder, env, adminKey: first.adminKey })
    expect(second.adminKey).toBeNull()
    expect(await second.client.getLogoutEvent(id)).toEqual(before)
    expect(await second.client.getJwks('main')).toEqual(jwks)
    const again = await second.client.postLogoutEvent({ iss: ISS, sub: 'bob' })
    expect(await second.client.getLogoutEvent(again.id, { wait: 10 })).toMatchObject({ acknowledged: 1 })
    expect(rp.requests).toBe(2)
  })

  test('on a folder in use fails with one line, and does not disturb the first', async () => {
    const dataFolder = await processes.dataFolder()
    const first = await startStandalone(processes, { dataFolder })
    for (const args of [[], ['--demo']]) {
      const second = spawnStandalone(processes, { dataFolder, args, terminal: true })
      expect(await second.exit()).toEqual({ code: 1, signal: null })
      expect(second.stderr).toMatch(
        /^the database in \S+ is in use by another process .*set CURFEW_DATA to another folder$/m,
      )
      expect(second.stdout).toBe('')
    }
    const { id } = await first.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
    expect(await first.client.getLogoutEvent(id, { wait: 10 })).toMatchObject({ status: 'settled' })
    expect(first.process.ended).toBeNull()
  })
})
