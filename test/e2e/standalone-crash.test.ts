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

// Goal: after any crash, `curfew up` starts at once and has all data of the last run.
// Method: SIGKILL to the process, to its PostgreSQL, or to both; then the same command again.

const processes = useProcesses()
const ISS = 'https://idp.example'
/** The longest allowed start, with time for a busy machine. A take-over that waits for a timeout would take longer. */
const AT_ONCE_MS = 10_000

/** Stores an issuer, a relying party and an event. @returns the id of the event. */
async function store({ client }: Standalone): Promise<string> {
  await client.putIssuer('main', { iss: ISS })
  await client.putRelyingParty('main', 'mail', { backchannel_logout_uri: 'https://mail.example/logout' })
  const { id } = await client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: ['unregistered'] })
  await client.getLogoutEvent(id, { wait: 10 })
  return id
}

async function expectStored({ client }: Standalone, id: string): Promise<void> {
  expect(await client.getLogoutEvent(id)).toMatchObject({ sub: 'alice', status: 'settled' })
  expect(await client.getRelyingParty('main', 'mail')).toMatchObject({ client_id: 'mail' })
  const { id: next } = await client.postLogoutEvent({ iss: ISS, sub: 'bob', clients: ['unregistered'] })
  expect(await client.getLogoutEvent(next, { wait: 10 })).toMatchObject({ sub: 'bob', status: 'settled' })
}

async function startAtOnce(dataFolder: string, adminKey: string | null): Promise<Standalone> {
  const startedMs = performance.now()
  const standalone = await startStandalone(processes, { dataFolder, adminKey })
  expect(performance.now() - startedMs).toBeLessThan(AT_ONCE_MS)
  return standalone
}

describe('the next start', () => {
  test('after SIGKILL takes over the orphaned database server', async () => {
    const dataFolder = await processes.dataFolder()
    const first = await startStandalone(processes, { dataFolder })
    const id = await store(first)
    await first.process.kill()
    const [orphan] = serversOf(dataFolder)
    expect(orphan).toBeGreaterThan(0)
    const second = await startAtOnce(dataFolder, first.adminKey)
    await expectStored(second, id)
    expect(serversOf(dataFolder)).not.toContain(orphan)
    second.process.signal('SIGINT')
    expect(await second.process.exit()).toEqual({ code: 0, signal: null })
    expect(serversOf(dataFolder)).toEqual([])
  })

  test('after SIGKILL of both recovers the database', async () => {
    const dataFolder = await processes.dataFolder()
    const first = await startStandalone(processes, { dataFolder })
    const id = await store(first)
    // Both at once, so that neither can clean up after the other.
    first.process.signal('SIGKILL')
    expect(endServers(dataFolder, 'SIGKILL')).toBe(true)
    await first.process.exit()
    await expectStored(await startAtOnce(dataFolder, first.adminKey), id)
  })

  test('after SIGKILL of both ignores another process that has reused the pid of the dead database', async () => {
    const dataFolder = await processes.dataFolder()
    const first = await startStandalone(processes, { dataFolder })
    const id = await store(first)
    first.process.signal('SIGKILL')
    endServers(dataFolder, 'SIGKILL')
    await first.process.exit()
    await gone(dataFolder)
    const lockFile = lockFileOf(dataFolder)
    const { uid, gid } = await stat(lockFile)
    // The process has the database's user, as in a restarted container where pids are reused.
    const unrelated = spawn('sleep', ['600'], process.getuid?.() === 0 ? { uid, gid, cwd: '/' } : {})
    onTestFinished(() => void unrelated.kill())
    await once(unrelated, 'spawn')
    const [, ...rest] = (await readFile(lockFile, 'utf8')).split('\n')
    await writeFile(lockFile, [unrelated.pid, ...rest].join('\n'))
    await expectStored(await startAtOnce(dataFolder, first.adminKey), id)
    expect(unrelated.exitCode ?? unrelated.signalCode).toBeNull()
  })

  test('after SIGKILL during the first start begins again, and makes an admin key', async () => {
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
    await expectStored(second, await store(second))
  })
})

test('a database that is killed under a running Curfew recovers by itself, and so does Curfew', async () => {
  const dataFolder = await processes.dataFolder()
  const curfew = await startStandalone(processes, { dataFolder })
  const id = await store(curfew)
  const [before] = serversOf(dataFolder)
  expect(endServers(dataFolder, 'SIGKILL')).toBe(true)
  await expect
    .poll(() => curfew.client.getLogoutEvent(id).catch(() => null), { timeout: 20_000 })
    .toMatchObject({ sub: 'alice' })
  // The recovering server may close a connection once more.
  await vi.waitFor(() => expectStored(curfew, id), { timeout: 20_000, interval: 100 })
  expect(serversOf(dataFolder)[0]).not.toBe(before)
  curfew.process.signal('SIGINT')
  expect(await curfew.process.exit()).toEqual({ code: 0, signal: null })
  expect(serversOf(dataFolder)).toEqual([])
})

const root = process.getuid?.() === 0
const notRoot = root ? '' : ' (skipped: these tests do not run as root)'
test.runIf(root)(
  `as root, Curfew runs PostgreSQL as another user, even if only root may enter the data folder${notRoot}`,
  async () => {
    const dataFolder = await processes.dataFolder()
    await chmod(dataFolder, 0o700)
    const first = await startStandalone(processes, { dataFolder })
    const id = await store(first)
    expect((await stat(dirname(lockFileOf(dataFolder)))).uid).toBeGreaterThan(0)
    const [server] = serversOf(dataFolder)
    expect((await stat(`/proc/${server}`)).uid).toBeGreaterThan(0)
    await first.process.kill()
    await expectStored(await startAtOnce(dataFolder, first.adminKey), id)
  },
)
