import type { FileHandle } from 'node:fs/promises'
import type { Lock } from './lock.ts'
import { encodeEntries, storedBytes } from './segment.ts'
import type { Segment, Store } from './store.ts'

/** The size of a segment. An entry that is larger has a segment for itself. */
export const SEGMENT_BYTES = 1_048_576

/** Writes groups of entries to the newest segment. */
export interface Writer {
  /** Makes all entries durable with one write and one fsync, or rejects and stores none of them. */
  write(payloads: readonly Uint8Array[]): Promise<void>
  /** Lets the next write begin a new segment. */
  seal(): Promise<void>
  isActive(segment: Segment): boolean
  /** The write that is under way, or null. It never rejects. */
  readonly writing: Promise<void> | null
}

interface Active {
  readonly segment: Segment
  readonly handle: FileHandle
}

/** @param segments gets new segments. */
export function createWriter(deps: { store: Store; lock: Lock; segments: Segment[] }): Writer {
  const { store, lock, segments } = deps
  let active: Active | null = null
  let writing: Promise<void> | null = null

  async function seal(): Promise<void> {
    const sealed = active
    active = null
    await sealed?.handle.close()
  }
  async function begin(): Promise<Active> {
    const begun = await store.create()
    segments.push(begun.segment)
    active = begun
    return begun
  }
  /** After a failed fsync nothing is known about the file behind its confirmed end. So no later entry goes there. */
  async function abandon({ segment, handle }: Active): Promise<void> {
    active = null
    const isEmpty = segment.end === 0
    // Otherwise each append to a full disk would leave a file.
    if (isEmpty && segments.includes(segment)) segments.splice(segments.indexOf(segment), 1)
    // If this fails, too, the file keeps a torn tail, which readers ignore.
    await handle.truncate(segment.end).catch(() => undefined)
    await handle.close().catch(() => undefined)
    if (isEmpty) await store.discard(segment).catch(() => undefined)
  }

  async function append(payloads: readonly Uint8Array[]): Promise<void> {
    const bytes = payloads.reduce((sum, payload) => sum + storedBytes(payload), 0)
    if (active !== null && active.segment.end > 0 && active.segment.end + bytes > SEGMENT_BYTES) await seal()
    const current = active ?? (await begin())
    const { segment, handle } = current
    try {
      await writeAll(handle, encodeEntries(payloads, segment.salt), segment.end)
      await handle.datasync()
      await lock.check()
    } catch (error) {
      await abandon(current)
      throw error
    }
    segment.end += bytes
    segment.waiting.bytes += bytes
    segment.waiting.entries += payloads.length
  }

  return {
    write(payloads) {
      const written = append(payloads)
      const ended = () => {
        writing = null
      }
      writing = written.then(ended, ended)
      return written
    },
    seal,
    isActive: (segment) => active?.segment === segment,
    get writing() {
      return writing
    },
  }
}

async function writeAll(handle: FileHandle, data: Buffer, from: number): Promise<void> {
  for (let at = 0; at < data.length; ) {
    const { bytesWritten } = await handle.write(data, at, data.length - at, from + at)
    at += bytesWritten
  }
}
