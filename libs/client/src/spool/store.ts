import { randomInt } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { crc32 } from 'node:zlib'
import { codeOf } from './lock.ts'
import { type Parsed, parseEntries, storedBytes } from './segment.ts'

// The directory of a spool: its segments, and the file that says how far the first one is delivered.

/** A segment with unreadable bytes. Its file stays, under another name. */
export class SpoolDamagedError extends Error {
  constructor(path: string, damage: string, options?: ErrorOptions) {
    super(
      `The spool has damage in ${path}: ${damage}. Its readable entries are delivered, and the file is kept as ${asidePath(path)}. Check the disk, and compare the file with your own log of events.`,
      options,
    )
    this.name = 'SpoolDamagedError'
  }
}

export interface Segment {
  readonly number: number
  readonly salt: number
  readonly path: string
  /** The offset after the last confirmed entry. */
  end: number
  /** The offset after the last delivered entry. */
  delivered: number
  /** The number and the stored size of the entries that wait. */
  waiting: { entries: number; bytes: number }
  /** Whether it has unreadable bytes. Such a segment is never deleted. */
  isDamaged: boolean
}

/** The highest salt of a checksum is that of 32 bits. */
const SALTS = 2 ** 32
const SEGMENT = /^(\d{16})-([0-9a-f]{8})\.spool$/
const asidePath = (path: string) => path.replace(/\.spool$/, '.damaged')

export interface Store {
  /** Creates an empty segment that a crash does not remove. */
  create(): Promise<{ readonly segment: Segment; readonly handle: FileHandle }>
  /** Reads the entries of a segment from an offset to its end. */
  read(segment: Segment, from: number): Promise<Parsed>
  /** Notes how far a segment is delivered. A crash of the machine may lose the note. */
  note(segment: Segment): Promise<void>
  /** Deletes a segment, or moves it aside if it is damaged. */
  discard(segment: Segment): Promise<void>
  close(): Promise<void>
}

/** Opens the directory, and finds the segments of earlier lives, oldest first. */
export async function openStore(
  directory: string,
  onError: (error: Error) => void,
): Promise<{ readonly store: Store; readonly found: Segment[] }> {
  const names = (await readdir(directory)).filter((name) => SEGMENT.test(name)).sort()
  const notes = join(directory, 'delivered')
  const noted = await readNote(notes)
  const noteFile = await open(notes, noted === null ? 'w' : 'r+', 0o600)
  const store = createStore(directory, {
    onError,
    noteFile,
    lastNumber: Math.max(numberOf(names.at(-1)), numberOf(noted?.name)),
  })
  const found: Segment[] = []
  try {
    for (const name of names) {
      const segment = segmentOf(directory, name)
      if (noted?.name === name) segment.delivered = noted.delivered
      segment.end = Number.POSITIVE_INFINITY
      const { entries } = await store.read(segment, segment.delivered)
      segment.end = entries.at(-1)?.end ?? segment.delivered
      for (const { payload } of entries) segment.waiting.bytes += storedBytes(payload)
      segment.waiting.entries = entries.length
      found.push(segment)
    }
  } catch (error) {
    await store.close()
    throw error
  }
  return { store, found }
}

function createStore(
  directory: string,
  options: { onError: (error: Error) => void; noteFile: FileHandle; lastNumber: number },
): Store {
  const { onError, noteFile } = options
  let { lastNumber } = options
  const markDamaged = (segment: Segment, damage: string, cause?: unknown) => {
    if (!segment.isDamaged) onError(new SpoolDamagedError(segment.path, damage, { cause }))
    segment.isDamaged = true
  }
  return {
    async create() {
      const salt = randomInt(SALTS)
      lastNumber++
      const name = `${String(lastNumber).padStart(16, '0')}-${salt.toString(16).padStart(8, '0')}.spool`
      const segment = segmentOf(directory, name)
      const handle = await open(segment.path, 'wx', 0o600)
      try {
        await syncDirectory(directory)
      } catch (error) {
        await handle.close()
        throw error
      }
      return { segment, handle }
    },
    async read(segment, from) {
      try {
        const data = await readRange(segment.path, from, segment.end)
        const parsed = parseEntries(data, segment.salt, from)
        if (parsed.damagedBytes > 0) markDamaged(segment, `${parsed.damagedBytes} bytes are unreadable`)
        return parsed
      } catch (error) {
        const code = codeOf(error)
        if (code === 'EIO') markDamaged(segment, 'the disk cannot read it', error)
        else if (code === 'ENOENT') onError(missingError(segment.path, error))
        else throw error
        return { entries: [], damagedBytes: 0 }
      }
    },
    async note(segment) {
      const text = noteOf(segment.path.slice(-SEGMENT_NAME_LENGTH), segment.delivered)
      await noteFile.write(text, 0, 'latin1')
    },
    async discard({ path, isDamaged }) {
      if (isDamaged) await rename(path, asidePath(path))
      else await rm(path, { force: true })
    },
    close: () => noteFile.close(),
  }
}

/** Happens while a process takes over the directory of a living one, which delivers its last batch. */
const missingError = (path: string, cause: unknown) =>
  new Error(
    `The segment ${path} of the spool is gone. Another process has delivered or deleted it. Check that each process has a directory of its own.`,
    { cause },
  )

const SEGMENT_NAME_LENGTH = '0000000000000000-00000000.spool'.length

function segmentOf(directory: string, name: string): Segment {
  const [, number = '', salt = ''] = SEGMENT.exec(name) ?? []
  return {
    ...{ number: Number(number), salt: Number.parseInt(salt, 16), path: join(directory, name) },
    ...{ end: 0, delivered: 0, waiting: { entries: 0, bytes: 0 }, isDamaged: false },
  }
}

const numberOf = (name = '') => Number(SEGMENT.exec(name)?.[1] ?? 0)

/** A note has one length, so that a write over the previous one leaves nothing of it. */
function noteOf(name: string, delivered: number): string {
  const text = `${name} ${String(delivered).padStart(16, '0')}`
  return `${text} ${crc32(text).toString(16).padStart(8, '0')}\n`
}

/** The note, or null if there is none or a crash of the machine has damaged it. Its entries are then delivered again. */
async function readNote(path: string): Promise<{ readonly name: string; readonly delivered: number } | null> {
  const text = await readFile(path, 'latin1').catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return ''
    throw error
  })
  const [name = '', delivered = ''] = text.split(' ')
  return SEGMENT.test(name) && noteOf(name, Number(delivered)) === text
    ? { name, delivered: Number(delivered) }
    : null
}

async function readRange(path: string, from: number, to: number): Promise<Buffer> {
  const handle = await open(path, 'r')
  try {
    const end = Math.min(to, (await handle.stat()).size)
    const data = Buffer.allocUnsafe(Math.max(0, end - from))
    for (let at = 0; at < data.length; ) {
      const { bytesRead } = await handle.read(data, at, data.length - at, from + at)
      if (bytesRead === 0) return data.subarray(0, at)
      at += bytesRead
    }
    return data
  } finally {
    await handle.close()
  }
}

/** Creates the directory with its parents, so that a crash does not remove them. */
export async function makeDirectory(path: string): Promise<void> {
  const made = await mkdir(path, { recursive: true, mode: 0o700 })
  if (made === undefined) return
  const top = dirname(resolve(made))
  for (let at = resolve(path); at !== top; ) {
    at = dirname(at)
    await syncDirectory(at)
  }
}

/** Makes new names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  // Windows does not open directories, and keeps new names without this.
  if (process.platform === 'win32') return
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
