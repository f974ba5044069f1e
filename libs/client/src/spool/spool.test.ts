import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFile,
  cp,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { encodeEntries } from './segment.ts'
import { openSpool, type Spool, SpoolFullError, SpoolLockedError, type SpoolOptions } from './spool.ts'

// Goal: a confirmed entry survives every crash, and is handed out until it is delivered.
// Method: real directories; a process that is killed amid appends; files that are cut and damaged; a disk that is full.

const run = promisify(execFile)
let root: string
let directory: string
const opened: Spool[] = []
const errors: Error[] = []

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'curfew-spool-'))
  directory = join(root, 'new', 'spool')
})
afterEach(async () => {
  await Promise.all(opened.splice(0).map((spool) => spool.close()))
  errors.splice(0)
  await rm(root, { recursive: true, force: true })
})

async function openHere(options: Partial<SpoolOptions> = {}): Promise<Spool> {
  const spool = await openSpool({ directory, onError: (error) => errors.push(error), ...options })
  opened.push(spool)
  return spool
}
const bytes = (text: string) => Buffer.from(text)
const appendAll = (spool: Spool, texts: readonly string[]) =>
  Promise.all(texts.map((text) => spool.append(bytes(text))))
const numbered = (count: number) => Array.from({ length: count }, (_, index) => `entry ${index}`)

/** Delivers everything. @returns the entries by batch. */
async function batchesOf(spool: Spool): Promise<string[][]> {
  const batches: string[][] = []
  await spool.drain(async (entries) => {
    batches.push(entries.map((entry) => Buffer.from(entry).toString()))
  })
  return batches
}
const drained = async (spool: Spool) => (await batchesOf(spool)).flat()
const filesOf = async (suffix: string) =>
  (await readdir(directory)).filter((name) => name.endsWith(suffix)).map((name) => join(directory, name))

/** Copies the directory as a crash leaves it, and works on the copy from here on. */
async function crash(): Promise<void> {
  const copy = await mkdtemp(join(root, 'crashed-'))
  await cp(directory, copy, { recursive: true })
  await rm(join(copy, 'lock'))
  directory = copy
}

describe('a spool', () => {
  test('hands entries out oldest first in batches, and leaves no file of them behind', async () => {
    const spool = await openHere({ batchMax: 2 })
    await appendAll(spool, ['a', 'b', 'c'])
    expect(spool.size().entries).toBe(3)
    expect(await batchesOf(spool)).toEqual([['a', 'b'], ['c']])
    expect(spool.size()).toEqual({ entries: 0, bytes: 0 })
    expect(await filesOf('.spool')).toEqual([])
    expect(await drained(spool)).toEqual([])
  })

  test('keeps the entries of a batch whose delivery fails, and hands them out again', async () => {
    const spool = await openHere({ batchMax: 2 })
    await appendAll(spool, numbered(5))
    let batches = 0
    const failing = spool.drain(async () => {
      if (++batches === 2) throw new Error('no answer')
    })
    await expect(failing).rejects.toThrow('no answer')
    expect(spool.size().entries).toBe(3)
    expect(await drained(spool)).toEqual(['entry 2', 'entry 3', 'entry 4'])
  })

  test('hands out entries that come while it drains', async () => {
    const spool = await openHere()
    await spool.append(bytes('first'))
    const seen: string[] = []
    await spool.drain(async (entries) => {
      if (seen.length === 0) await spool.append(bytes('second'))
      seen.push(...entries.map((entry) => Buffer.from(entry).toString()))
    })
    expect(seen).toEqual(['first', 'second'])
  })

  test('confirms every entry of appends and drains that run at the same time, once', async () => {
    const spool = await openHere({ batchMax: 7 })
    const texts = numbered(3_000)
    const seen: string[] = []
    const deliver = async (entries: readonly Uint8Array[]) => {
      seen.push(...entries.map((entry) => Buffer.from(entry).toString()))
    }
    await Promise.all(
      texts.map(async (text, index) => {
        if (index % 50 === 0) await new Promise(setImmediate)
        await spool.append(bytes(text))
        if (index % 10 === 0) await spool.drain(deliver)
      }),
    )
    await spool.drain(deliver)
    expect(seen.toSorted()).toEqual(texts.toSorted())
  })

  test('keeps an append that is under way while a drain empties the spool', async () => {
    const spool = await openHere()
    const texts = numbered(200)
    const seen: string[] = []
    for (const [index, text] of texts.entries()) {
      const appended = spool.append(bytes(text))
      // The drain begins at different steps of the write.
      for (let round = 0; round < index % 20; round++) await new Promise(setImmediate)
      seen.push(...(await drained(spool)))
      await appended
    }
    expect([...seen, ...(await drained(spool))]).toEqual(texts)
  })

  test('takes the bytes of an entry before append returns', async () => {
    const spool = await openHere()
    const buffer = bytes('before')
    const appended = spool.append(buffer)
    buffer.fill('x')
    await appended
    expect(await drained(spool)).toEqual(['before'])
  })

  test('takes empty entries and entries larger than a segment', async () => {
    const spool = await openHere()
    const large = 'x'.repeat(3_000_000)
    await appendAll(spool, ['', large, 'after'])
    await spool.close()
    expect(await drained(await openHere())).toEqual(['', large, 'after'])
  })

  test('holds a backlog of many segments, and hands it out in order after it was opened again', async () => {
    const spool = await openHere()
    const texts = numbered(2_500).map((text) => text.padEnd(1_000))
    await appendAll(spool, texts)
    const size = spool.size()
    expect((await filesOf('.spool')).length).toBeGreaterThan(2)
    await spool.close()
    const again = await openHere()
    expect(again.size()).toEqual(size)
    expect(await drained(again)).toEqual(texts)
  })

  test('does not hand out again after a restart what it has delivered of a segment', async () => {
    const spool = await openHere({ batchMax: 1 })
    await appendAll(spool, ['a', 'b', 'c'])
    let batches = 0
    await spool
      .drain(async () => {
        if (++batches === 3) throw new Error('no answer')
      })
      .catch(() => undefined)
    await crash()
    expect(await drained(await openHere())).toEqual(['c'])
  })

  test('refuses appends above its limit, and takes them again once there is room', async () => {
    const spool = await openHere({ bytesMax: 100 })
    await spool.append(bytes('x'.repeat(60)))
    const refused = spool.append(bytes('y'.repeat(60)))
    await expect(refused).rejects.toBeInstanceOf(SpoolFullError)
    await expect(refused).rejects.toThrow(/limit is 100 bytes/)
    expect(await drained(spool)).toEqual(['x'.repeat(60)])
    await spool.append(bytes('y'.repeat(60)))
    expect(await drained(spool)).toEqual(['y'.repeat(60)])
  })

  test('counts appends that are under way against its limit', async () => {
    const spool = await openHere({ bytesMax: 100 })
    const results = await Promise.allSettled([1, 2, 3].map(() => spool.append(bytes('x'.repeat(40)))))
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected'])
  })

  test('stores the appends that are under way when it is closed, and takes no others', async () => {
    const spool = await openHere()
    const appended = appendAll(spool, ['a', 'b'])
    await spool.close()
    await appended
    await expect(spool.append(bytes('c'))).rejects.toThrow('The spool is closed')
    await expect(drained(spool)).rejects.toThrow('The spool is closed')
    expect(await drained(await openHere())).toEqual(['a', 'b'])
  })

  test('lets only its user read the directory', async () => {
    const spool = await openHere()
    await spool.append(bytes('a'))
    const [segment = ''] = await filesOf('.spool')
    expect([(await stat(directory)).mode & 0o777, (await stat(segment)).mode & 0o777]).toEqual([0o700, 0o600])
  })
})

describe('after a crash', () => {
  test('of a process that is killed amid appends, every confirmed entry is there once and whole', async () => {
    for (let round = 0; round < 3; round++) {
      directory = join(root, `round-${round}`)
      const child = spawn(process.execPath, [join(import.meta.dirname, 'appender.fixture.ts'), directory])
      let output = ''
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text
        if (output.length > 2_000 * (round + 1)) child.kill('SIGKILL')
      })
      await once(child, 'close')
      // The last line may be cut.
      const confirmed = output.split('\n').slice(0, -1)
      expect(confirmed.length).toBeGreaterThan(100)
      const entries = await drained(await openHere())
      const numbers = entries.map((entry) => entry.split(':')[0])
      expect(new Set(numbers).size).toBe(numbers.length)
      expect(numbers).toEqual(expect.arrayContaining(confirmed))
      for (const entry of entries) expect(entry).toMatch(/^(\d+):x*$/)
      expect(errors).toEqual([])
    }
  })

  test.each([1, 5, 11, 12, 13, 16])(
    'a tail that was cut after %i bytes is ignored silently',
    async (kept) => {
      const spool = await openHere()
      await appendAll(spool, ['a', 'b'])
      await crash()
      const [segment = ''] = await filesOf('.spool')
      const salt = Number.parseInt(/-(\w+)\.spool/.exec(segment)?.[1] ?? '', 16)
      await appendFile(segment, encodeEntries([bytes('torn!')], salt).subarray(0, kept))
      const again = await openHere()
      await again.append(bytes('c'))
      expect(await drained(again)).toEqual(['a', 'b', 'c'])
      expect(errors).toEqual([])
      expect(await filesOf('.damaged')).toEqual([])
    },
  )

  test('a tail of zeros, as after a power failure, is ignored silently', async () => {
    const spool = await openHere()
    await spool.append(bytes('a'))
    await crash()
    const [segment = ''] = await filesOf('.spool')
    await truncate(segment, 4_096)
    expect(await drained(await openHere())).toEqual(['a'])
    expect(errors).toEqual([])
  })

  test('a note of the delivered part that was damaged hands entries out twice, and loses none', async () => {
    const spool = await openHere({ batchMax: 1 })
    await appendAll(spool, ['a', 'b'])
    let batches = 0
    await spool
      .drain(async () => {
        if (++batches === 2) throw new Error('no answer')
      })
      .catch(() => undefined)
    await crash()
    const note = join(directory, 'delivered')
    await writeFile(note, (await readFile(note, 'latin1')).replace(/ 0(\d{15}) /, ' 9$1 '))
    expect(await drained(await openHere())).toEqual(['a', 'b'])
  })

  test('at any point, the next process has every confirmed entry that was not delivered', {
    timeout: 120_000,
  }, async () => {
    const command = fc.oneof(
      fc.record({ kind: fc.constant('append' as const), sizes: fc.array(fc.nat(400_000), { maxLength: 5 }) }),
      fc.record({ kind: fc.constant('drain' as const), batches: fc.nat(4) }),
      fc.record({ kind: fc.constant('crash' as const), torn: fc.nat(300) }),
      fc.record({ kind: fc.constant('reopen' as const) }),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(command, { maxLength: 15 }),
        fc.integer({ min: 1, max: 4 }),
        async (commands, batchMax) => {
          directory = await mkdtemp(join(root, 'property-'))
          const start = directory
          const waiting: string[] = []
          let count = 0
          let spool = await openHere({ batchMax })
          for (const each of commands) {
            if (each.kind === 'append') {
              const texts = each.sizes.map((size) => `${count++} `.padEnd(size, 'x'))
              await appendAll(spool, texts)
              waiting.push(...texts)
            } else if (each.kind === 'drain') {
              let left = each.batches
              await spool
                .drain(async (entries) => {
                  if (left-- === 0) throw new Error('no answer')
                  const texts = entries.map((entry) => Buffer.from(entry).toString())
                  expect(texts).toEqual(waiting.splice(0, entries.length))
                })
                .catch((error: Error) => expect(error.message).toBe('no answer'))
            } else {
              if (each.kind === 'crash') await crash()
              await spool.close()
              if (each.kind === 'crash') await tear(each.torn)
              spool = await openHere({ batchMax })
            }
            expect(spool.size().entries).toBe(waiting.length)
          }
          expect(await drained(spool)).toEqual(waiting)
          expect([spool.size(), errors]).toEqual([{ entries: 0, bytes: 0 }, []])
          await spool.close()
          await rm(start, { recursive: true, force: true })
        },
      ),
      { numRuns: 60 },
    )
  })
})

/** The names of the segments that were torn. No process appends to a segment of another. */
const torn = new Set<string>()

/** Appends the first bytes of an unconfirmed entry to the newest segment. */
async function tear(length: number): Promise<void> {
  const newest = (await filesOf('.spool')).sort().at(-1)
  if (newest === undefined || torn.has(basename(newest))) return
  torn.add(basename(newest))
  const salt = Number.parseInt(/-(\w+)\.spool/.exec(newest)?.[1] ?? '', 16)
  await appendFile(newest, encodeEntries([bytes('torn'.repeat(100))], salt).subarray(0, length))
}

describe('damage in a segment', () => {
  /** Opens a spool with five entries in one segment, after `damage` has changed the file. Each entry takes 100 bytes. */
  async function damaged(damage: (path: string) => Promise<void>): Promise<Spool> {
    const spool = await openHere()
    await appendAll(
      spool,
      numbered(5).map((text) => text.padEnd(88)),
    )
    await crash()
    const [segment = ''] = await filesOf('.spool')
    await damage(segment)
    return openHere()
  }
  const overwrite = (at: number, text: string) => async (path: string) => {
    const file = await open(path, 'r+')
    await file.write(text, at)
    await file.close()
  }

  test.each([
    ['in a payload', overwrite(250, '!'), [0, 1, 3, 4]],
    ['in a length', overwrite(200, '!'), [0, 1, 3, 4]],
    ['over two headers', overwrite(190, '!'.repeat(120)), [0, 4]],
    ['in the payload of the last entry', overwrite(480, '!'), [0, 1, 2, 3]],
    ['in the header of the last entry', overwrite(402, '!'), [0, 1, 2, 3]],
  ])('%s costs only the damaged entries; the file is reported and kept', async (_name, damage, readable) => {
    const spool = await damaged(damage)
    expect(errors.map(({ message }) => message)).toEqual([
      expect.stringMatching(/damage in .*\.spool: \d+ bytes are/),
    ])
    await spool.append(bytes('later'))
    const left = readable.map((index) => `entry ${index}`)
    expect((await drained(spool)).map((text) => text.trim())).toEqual([...left, 'later'])
    const [aside = '', ...others] = await filesOf('.damaged')
    expect([(await stat(aside)).size, others]).toEqual([500, []])
    expect(errors).toHaveLength(1)
    await spool.close()
    expect(await drained(await openHere())).toEqual([])
    expect(errors).toHaveLength(1)
  })
})

describe('the lock', () => {
  const owner = async () =>
    JSON.parse(await readFile(join(directory, 'lock'), 'utf8')) as Record<string, unknown>
  /** Leaves a spool with one entry and a lock with these changes. */
  async function leftWith(changes: Record<string, unknown>): Promise<void> {
    const spool = await openHere()
    await spool.append(bytes('left'))
    const lock = { ...(await owner()), ...changes }
    await spool.close()
    await writeFile(join(directory, 'lock'), JSON.stringify(lock))
  }

  test('refuses a second spool, in this process and in another, with the id of the process', async () => {
    await openHere()
    await expect(openHere()).rejects.toThrow(`Process ${process.pid} uses the spool`)
    const child = run(process.execPath, [join(import.meta.dirname, 'appender.fixture.ts'), directory])
    await expect(child).rejects.toThrow(`SpoolLockedError: Process ${process.pid} uses the spool`)
  })

  test.runIf(process.platform === 'linux').each([
    ['a dead process', { pid: 2 ** 22 + 1 }],
    ['this process id in an earlier life', { started: '1' }],
    ['another process that has reused the id', { pid: process.ppid, started: '1' }],
    ['another boot', { boot: 'another', pid: process.ppid }],
    ['another container', { namespace: 'pid:[1]', pid: process.ppid }],
  ])('of %s is taken over', async (_name, changes) => {
    await leftWith(changes)
    expect(await drained(await openHere())).toEqual(['left'])
  })

  test.each(['', '{"pid":', 'null', '{}'])('that a crash has cut to %j is taken over', async (text) => {
    const spool = await openHere()
    await spool.close()
    await writeFile(join(directory, 'lock'), text)
    await (await openHere()).append(bytes('a'))
  })

  test('that another process took over confirms no entry and hands out none', async () => {
    const spool = await openHere()
    await spool.append(bytes('a'))
    await writeFile(join(directory, 'lock'), JSON.stringify({ ...(await owner()), token: 'of the other' }))
    await expect(spool.append(bytes('b'))).rejects.toBeInstanceOf(SpoolLockedError)
    await expect(drained(spool)).rejects.toBeInstanceOf(SpoolLockedError)
    await spool.close()
    expect(await owner()).toMatchObject({ token: 'of the other' })
  })
})

/**
 * Makes the disk of the directory so small that a write fails: a small file system where one can be mounted, else a limit on the size
 * of files.
 *
 * @returns a function that undoes it.
 */
async function limitDisk(): Promise<() => Promise<unknown>> {
  await (await openHere()).close()
  const limit = (size: string) => run('prlimit', ['--pid', String(process.pid), `--fsize=${size}:`])
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'curfew-spool', directory])
    return () => run('umount', [directory])
  } catch {
    await limit('100000')
    return () => limit('unlimited')
  }
}

test.runIf(process.platform === 'linux')(
  'a disk that is full refuses appends without leaving files, keeps earlier entries whole, and takes appends once there is room',
  async () => {
    const undo = await limitDisk()
    try {
      const spool = await openHere()
      await spool.append(bytes('first'))
      const texts = Array.from({ length: 12 }, (_, index) => `${index} `.padEnd(30_000, 'x'))
      const results: PromiseSettledResult<void>[] = []
      for (const text of texts) results.push(...(await Promise.allSettled([spool.append(bytes(text))])))
      const refused = results.filter((result) => result.status === 'rejected')
      expect(refused.length).toBeGreaterThan(0)
      expect(['ENOSPC', 'EFBIG']).toContain(refused[0]?.reason.code)
      for (const file of await filesOf('.spool')) expect((await stat(file)).size).toBeGreaterThan(0)
      const confirmed = texts.filter((_, index) => results[index]?.status === 'fulfilled')
      expect(await drained(spool)).toEqual(['first', ...confirmed])
      await spool.append(bytes('after'))
      await spool.close()
      expect(await drained(await openHere())).toEqual(['after'])
      expect(errors).toEqual([])
    } finally {
      await Promise.all(opened.splice(0).map((spool) => spool.close()))
      await undo()
    }
  },
)

test('a segment that another process has deleted is reported, and the later ones are handed out', async () => {
  const spool = await openHere()
  await appendAll(spool, ['x'.repeat(1_000_000), 'y'.repeat(1_000_000)])
  const [first = ''] = (await filesOf('.spool')).sort()
  await rm(first)
  expect(await drained(spool)).toEqual(['y'.repeat(1_000_000)])
  expect(errors.map(({ message }) => message)).toEqual([expect.stringMatching(/The segment .* is gone/)])
  expect(spool.size()).toEqual({ entries: 0, bytes: 0 })
})
