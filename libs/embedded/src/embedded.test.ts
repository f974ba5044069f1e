import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LedgerUnavailableError } from '@curfew/domain'
import { createDatabase, openDatabase } from '@curfew/ledger'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type EmbeddedPostgres, EmbeddedPostgresInUseError, openEmbeddedPostgres } from './embedded.ts'
import { exists, readIfThere } from './place.ts'

// Goal: after any crash of the last owner or the server, the next start has the data or names the process that uses them.
// Method: real servers, real kills.

let base: string
let dataDir: string
const lines: string[] = []
const opened: EmbeddedPostgres[] = []
const children: ChildProcess[] = []
const orphans: number[] = []

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'curfew-embedded-'))
  await chmod(base, 0o755)
  dataDir = join(base, 'data')
  lines.length = 0
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  for (const pid of orphans.splice(0)) {
    if (((await readIfThere(`/proc/${pid}/cmdline`)) ?? '').includes(dataDir)) process.kill(pid, 'SIGQUIT')
  }
  for (const server of opened.splice(0)) await server.stop()
  const moved = await readIfThere(join(dataDir, 'moved-to'))
  if (moved !== null) await rm(moved.trim(), { recursive: true })
  await rm(base, { recursive: true })
})

async function openHere(): Promise<EmbeddedPostgres> {
  const server = await openEmbeddedPostgres({ dataDir, durable: false, log: (line) => lines.push(line) })
  opened.push(server)
  return server
}

async function ask(url: string, sql: string): Promise<unknown[]> {
  const db = await openDatabase(url)
  try {
    return (await db.query(sql)).rows
  } finally {
    await db.end()
  }
}

/** Opens the folder in another process, which then does nothing. */
async function openElsewhere(): Promise<{ child: ChildProcess; url: string; pid: number }> {
  const code = `
    const { openEmbeddedPostgres } = await import(${JSON.stringify(import.meta.resolve('./embedded.ts'))})
    const { url, pid } = await openEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)}, durable: false, log() {} })
    console.log(JSON.stringify({ url, pid }))`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  const [line] = await once(child.stdout ?? child, 'data')
  const answer = JSON.parse(String(line)) as { url: string; pid: number }
  orphans.push(answer.pid)
  return { child, ...answer }
}

async function killed(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}

async function waitUntilGone(pid: number): Promise<void> {
  // A dead process stays listed, with an empty command line, until its parent waits for it.
  const commandLine = async () => (await readIfThere(`/proc/${pid}/cmdline`)) ?? ''
  await expect.poll(commandLine, { timeout: 5_000 }).toBe('')
}

test('a second start finds the data of the first, and stop() is idempotent', async () => {
  const first = await openHere()
  await ask(first.url, 'create table kept as select 1 as n')
  await Promise.all([first.stop(), first.stop()])
  await first.stop()
  const db = createDatabase(first.url)
  await expect(db.query('select 1')).rejects.toBeInstanceOf(LedgerUnavailableError)
  await db.end()
  const second = await openHere()
  expect(await ask(second.url, 'select n from kept')).toEqual([{ n: 1 }])
}, 60_000)

test('the database sorts by code point and stores UTF-8 on every machine', async () => {
  const { url } = await openHere()
  const rows = await ask(url, `select n from unnest(array['ä', 'b', 'B', 'a']) n order by n`)
  expect(rows).toEqual([{ n: 'B' }, { n: 'a' }, { n: 'b' }, { n: 'ä' }])
  expect(await ask(url, 'show server_encoding')).toEqual([{ server_encoding: 'UTF8' }])
})

test('the log holds a failed constraint and not the row that failed it', async () => {
  const { url } = await openHere()
  await ask(url, 'create table kept as select null as sub where false')
  await ask(url, 'alter table kept add constraint no_subject check (sub is null)')
  await expect(ask(url, "insert into kept values ('alice')")).rejects.toThrow('no_subject')
  const folder = (await readIfThere(join(dataDir, 'moved-to')))?.trim() ?? dataDir
  const log = await readFile(join(folder, 'postgres.log'), 'utf8')
  expect(log).toContain('violates check constraint "no_subject"')
  expect(log).not.toContain('alice')
})

test('a folder that a living process uses is refused, and its server keeps running', async () => {
  const other = await openElsewhere()
  await expect(openHere()).rejects.toBeInstanceOf(EmbeddedPostgresInUseError)
  expect(await ask(other.url, 'select 1 as n')).toEqual([{ n: 1 }])
})

test('a start takes over a server whose owner was killed, with all committed data', async () => {
  const other = await openElsewhere()
  await ask(other.url, 'create table kept as select 1 as n')
  await killed(other.child)
  const server = await openHere()
  expect(server.pid).not.toBe(other.pid)
  expect(await ask(server.url, 'select n from kept')).toEqual([{ n: 1 }])
  expect(lines.join()).toContain('whose owner was killed')
})

test('a start succeeds after owner and server crashed and another process got the pid of the server', async () => {
  const other = await openElsewhere()
  await ask(other.url, 'create table kept as select 1 as n')
  await killed(other.child)
  process.kill(other.pid, 'SIGKILL')
  await waitUntilGone(other.pid)
  const lockFile = join(dataDir, 'cluster', 'postmaster.pid')
  const [, ...rest] = (await readFile(lockFile, 'utf8')).split('\n')
  // The same user as the server's: PostgreSQL itself recognises a reused pid of any other user.
  const { uid, gid } = await stat(lockFile)
  const innocent = spawn('sleep', ['600'], process.getuid?.() === 0 ? { uid, gid, cwd: '/' } : {})
  children.push(innocent)
  await once(innocent, 'spawn')
  await writeFile(lockFile, [innocent.pid, ...rest].join('\n'))
  const server = await openHere()
  expect(await ask(server.url, 'select n from kept')).toEqual([{ n: 1 }])
  expect(innocent.exitCode ?? innocent.signalCode).toBeNull()
  // The crashed server's sockets are removed as well.
  const sockets = (await readdir(join(dataDir, 'cluster'))).filter((name) => name.startsWith('.s.PGSQL.'))
  expect(sockets).toHaveLength(2)
})

test.runIf(process.platform === 'linux')(
  'Ctrl-C reaches our whole process group and not the server',
  async () => {
    const { pid } = await openHere()
    const words = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/\(.*\)/, 'name').split(' ')
    expect(Number(words[4])).toBe(pid)
  },
)

test('a server that is killed under us restarts at the same address', async () => {
  const server = await openHere()
  const db = createDatabase(server.url)
  await db.query('create table kept as select 1 as n')
  const { pid } = server
  process.kill(pid, 'SIGKILL')
  await expect.poll(() => server.pid, { timeout: 20_000 }).not.toBe(pid)
  await expect(ask(server.url, 'select n from kept')).resolves.toEqual([{ n: 1 }])
  expect((await db.query('select n from kept')).rows).toEqual([{ n: 1 }])
  await db.end()
  // This process owns the new server too, so a second open is refused.
  await expect(openHere()).rejects.toBeInstanceOf(EmbeddedPostgresInUseError)
})

test('the server stays ours after an administrator ends every connection', async () => {
  const server = await openHere()
  const locks = `select pid from pg_locks where locktype = 'advisory' and classid = 1129665102`
  const [before] = await ask(server.url, locks)
  await ask(
    server.url,
    'select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = $$client backend$$',
  )
  await expect.poll(() => ask(server.url, locks)).toEqual([{ pid: expect.any(Number) }])
  expect(await ask(server.url, locks)).not.toEqual([before])
})

test('a half-made cluster is removed and made again', async () => {
  const unfinished = join(dataDir, 'cluster.0badc0de.unfinished')
  await mkdir(unfinished, { recursive: true })
  await chmod(dataDir, 0o755)
  await writeFile(join(unfinished, 'PG_VERSION'), '18\n')
  const hourAgo = new Date(Date.now() - 3_600_000)
  await utimes(unfinished, hourAgo, hourAgo)
  const { url } = await openHere()
  expect(await ask(url, 'select 1 as n')).toEqual([{ n: 1 }])
  expect(await exists(unfinished)).toBe(false)
})

test('of two starts at the same time, one succeeds and the other is refused', async () => {
  const results = await Promise.allSettled([openHere(), openHere()])
  expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  const refused = results.find((result) => result.status === 'rejected')
  expect(refused?.reason).toBeInstanceOf(EmbeddedPostgresInUseError)
})

test.runIf(process.getuid?.() === 0)(
  'as root, below a folder that only root may enter, the database is kept elsewhere and found again',
  async () => {
    await chmod(base, 0o700)
    const first = await openHere()
    await ask(first.url, 'create table kept as select 1 as n')
    await first.stop()
    const second = await openHere()
    expect(await ask(second.url, 'select n from kept')).toEqual([{ n: 1 }])
    const moved = (await readIfThere(join(dataDir, 'moved-to')))?.trim() ?? ''
    expect(lines.join()).toContain(moved)
    expect(await exists(join(moved, 'cluster'))).toBe(true)
    await second.stop()
    await rename(moved, `${moved}.away`)
    try {
      await expect(openHere()).rejects.toThrow(/which is gone; restore that folder/)
    } finally {
      await rename(`${moved}.away`, moved)
    }
  },
)
