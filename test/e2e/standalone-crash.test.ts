import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import {
  endServers,
  gone,
  lockFileOf,
  type Standalone,
  serversOf,
  startStandalone,
  useProcesses,
} from '../support/processes.ts'

// Goal: whatever killed the last run, `curfew up` starts at once and finds what it had promised to keep.
// Method: SIGKILL to the process, to its PostgreSQL, or to both; then the same command again.

const processes = useProcesses()
const ISS = 'https://idp.example'
/** To be up again, a busy machine allowed for; a take-over that waits for some timeout is longer. */
const AT_ONCE_MS = 10_000

/** Leaves behind what is worth finding again. */
async function leave({ client }: Standalone): Promise<string> {
  await client.putIssuer('main', { iss: ISS })
  await client.putRelyingParty('main', 'mail', { backchannel_logout_uri: 'https://mail.example/logout' })
  const { id } = await client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: ['nobody'] })
  await client.getLogoutEvent(id, { wait: 10 })
  return id
}

async function expectThere({ client }: Standalone, id: string): Promise<void> {
  expect(await client.getLogoutEvent(id)).toMatchObject({ sub: 'alice', status: 'settled' })
  expect(await client.getRelyingParty('main', 'mail')).toMatchObject({ client_id: 'mail' })
  const { id: next } = await client.postLogoutEvent({ iss: ISS, sub: 'bob', clients: ['nobody'] })
  expect(await client.getLogoutEvent(next, { wait: 10 })).toMatchObject({ sub: 'bob', status: 'settled' })
}

async function startAtOnce(dataFolder: string, adminKey: string | null): Promise<Standalone> {
  const startedMs = performance.now()
  const standalone = await startStandalone(processes, { dataFolder, adminKey })
  expect(performance.now() - startedMs).toBeLessThan(AT_ONCE_MS)
  return standalone
}

describe('the next start', () => {
  test('after SIGKILL takes over the database that was left running', async () => {
    const dataFolder = await processes.dataFolder()
    const first = await startStandalone(processes, { dataFolder })
    const id = await leave(first)
    await first.process.kill()
    const [orphan] = serversOf(dataFolder)
    expect(orphan).toBeGreaterThan(0)
    const second = await startAtOnce(dataFolder, first.adminKey)
    await expectThere(second, id)
    expect(serversOf(dataFolder)).not.toContain(orphan)
    second.process.signal('SIGINT')
    expect(await second.process.exit()).toEqual({ code: 0, signal: null })
    expect(serversOf(dataFolder)).toEqual([])
  })

  test('after SIGKILL of both recovers the database', async () => {
    const dataFolder = await processes.dataFolder()
    const first = await startStandalone(processes, { dataFolder })
    const id = await leave(first)
    // Both at once: were one to go first, the other would have a moment to put things in order.
    first.process.signal('SIGKILL')
    expect(endServers(dataFolder, 'SIGKILL')).toBe(true)
    await first.process.exit()
    await expectThere(await startAtOnce(dataFolder, first.adminKey), id)
  })

  test('after SIGKILL of both is not fooled by a process that has the number of the dead database since', async () => {
    const dataFolder = await processes.dataFolder()
    const first = await startStandalone(processes, { dataFolder })
    const id = await leave(first)
    first.process.signal('SIGKILL')
    endServers(dataFolder, 'SIGKILL')
    await first.process.exit()
    await gone(dataFolder)
    const lockFile = lockFileOf(dataFolder)
    const { uid, gid } = await stat(lockFile)
    // Of the database's own user, as in a container whose numbers begin anew.
    const innocent = spawn('sleep', ['600'], process.getuid?.() === 0 ? { uid, gid, cwd: '/' } : {})
    onTestFinished(() => void innocent.kill())
    await once(innocent, 'spawn')
    const [, ...rest] = (await readFile(lockFile, 'utf8')).split('\n')
    await writeFile(lockFile, [innocent.pid, ...rest].join('\n'))
    await expectThere(await startAtOnce(dataFolder, first.adminKey), id)
    expect(innocent.exitCode ?? innocent.signalCode).toBeNull()
  })

  test('after SIGKILL in the middle of the first one begins anew, and has a key to show', async () => {
    const dataFolder = await processes.dataFolder()
    const first = processes.start({
      name: 'curfew up, killed while it makes its database',
      file: 'services/cli/src/main.ts',
      args: ['up'],
      env: { CURFEW_DATA: dataFolder, CURFEW_PORT: '0' },
    })
    await expect.poll(() => serversOf(dataFolder).length, { interval: 5, timeout: 10_000 }).toBeGreaterThan(0)
    await first.kill()
    const second = await startAtOnce(dataFolder, null)
    expect(second.adminKey).not.toBeNull()
    await expectThere(second, await leave(second))
  })
})

test('a database that is killed under a running Curfew comes back by itself, and so does Curfew', async () => {
  const dataFolder = await processes.dataFolder()
  const curfew = await startStandalone(processes, { dataFolder })
  const id = await leave(curfew)
  const [before] = serversOf(dataFolder)
  expect(endServers(dataFolder, 'SIGKILL')).toBe(true)
  await expect
    .poll(() => curfew.client.getLogoutEvent(id).catch(() => null), { timeout: 20_000 })
    .toMatchObject({ sub: 'alice' })
  // The server that recovers may end a connection once more before it stays.
  await vi.waitFor(() => expectThere(curfew, id), { timeout: 20_000, interval: 100 })
  expect(serversOf(dataFolder)[0]).not.toBe(before)
  curfew.process.signal('SIGINT')
  expect(await curfew.process.exit()).toEqual({ code: 0, signal: null })
  expect(serversOf(dataFolder)).toEqual([])
})

const root = process.getuid?.() === 0
const notRoot = root ? '' : ' (skipped: these tests do not run as root)'
test.runIf(root)(
  `as root, whom PostgreSQL refuses: runs it as another user, also where only root may enter the folder${notRoot}`,
  async () => {
    const dataFolder = await processes.dataFolder()
    await chmod(dataFolder, 0o700)
    const first = await startStandalone(processes, { dataFolder })
    const id = await leave(first)
    expect((await stat(dirname(lockFileOf(dataFolder)))).uid).toBeGreaterThan(0)
    const [server] = serversOf(dataFolder)
    expect((await stat(`/proc/${server}`)).uid).toBeGreaterThan(0)
    await first.process.kill()
    await expectThere(await startAtOnce(dataFolder, first.adminKey), id)
  },
)
