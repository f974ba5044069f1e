import { execFile } from 'node:child_process'
import { open, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { endServers, gone, type Processes, serversOf } from '../support/processes.ts'

// A data folder on a disk that can be made full, without a disk to spare.

const run = promisify(execFile)

export interface Disk extends AsyncDisposable {
  /** For people: what stands for the disk. */
  readonly how: string
  readonly folder: string
  /** No byte more for what `curfew` and its PostgreSQL write, new processes of theirs included. */
  fill(curfew: number): Promise<void>
  free(curfew: number): Promise<void>
}

/** Room for an empty database, its write-ahead log, and what a test writes in minutes. */
const SIZE_MIB = 512
const BLOCK = Buffer.alloc(1_048_576)
/** So little that nothing of PostgreSQL's can be written beyond what lies in its first blocks. */
const FILE_BYTES_MAX = 65_536

/**
 * A small file system in memory where one can be mounted, as root on Linux. Elsewhere on Linux a limit on the size of
 * files: then what is refused is refused with another error, and the write-ahead log is hit first.
 *
 * @returns why neither can be had, in words.
 */
export async function openDisk(processes: Processes): Promise<Disk | { readonly missing: string }> {
  const folder = await processes.dataFolder()
  const options = `size=${SIZE_MIB}m,mode=0755`
  const unmountable = await run('mount', ['-t', 'tmpfs', '-o', options, 'curfew-chaos', folder]).then(
    () => null,
    saidBy,
  )
  if (unmountable === null) return onFileSystem(folder)
  const unlimitable = await run('prlimit', ['--version']).then(() => null, saidBy)
  if (unlimitable === null) return underLimit(folder)
  return {
    missing: `no disk that can be made full: mount says "${unmountable}", prlimit says "${unlimitable}"`,
  }
}

function onFileSystem(folder: string): Disk {
  const ballast = join(folder, 'ballast')
  return {
    how: 'a tmpfs',
    folder,
    async fill() {
      const file = await open(ballast, 'w')
      try {
        for (let size = BLOCK.length; size > 0; ) {
          // The last of the room is taken in small bites.
          const { bytesWritten } = await file.write(BLOCK.subarray(0, size)).catch(whenFull)
          if (bytesWritten < size) size = bytesWritten === 0 ? Math.floor(size / 2) : bytesWritten
        }
      } finally {
        await file.close()
      }
    },
    free: () => rm(ballast),
    async [Symbol.asyncDispose]() {
      endServers(folder, 'SIGQUIT')
      await gone(folder)
      await run('umount', [folder])
    },
  }
}

function underLimit(folder: string): Disk {
  const limit = async (curfew: number, bytes: string) => {
    for (const pid of [curfew, ...serversOf(folder)]) {
      try {
        // As the user whose process it is, and the soft limit only: neither asks for a privilege, nor does the way back.
        const { uid, gid } = await stat(`/proc/${pid}`)
        await run('prlimit', ['--pid', String(pid), `--fsize=${bytes}:`], { uid, gid })
      } catch (error) {
        // One of PostgreSQL's may have ended meanwhile.
        if (pid === curfew || !/No such (?:process|file)/i.test(saidBy(error))) throw error
      }
    }
  }
  return {
    how: 'a limit on the size of files',
    folder,
    fill: (curfew) => limit(curfew, String(FILE_BYTES_MAX)),
    free: (curfew) => limit(curfew, 'unlimited'),
    async [Symbol.asyncDispose]() {
      endServers(folder, 'SIGQUIT')
      await gone(folder)
    },
  }
}

function whenFull(error: unknown): { readonly bytesWritten: number } {
  if (error instanceof Error && 'code' in error && error.code === 'ENOSPC') return { bytesWritten: 0 }
  throw error
}

function saidBy(error: unknown): string {
  const { stderr, message } = error as { readonly stderr?: string; readonly message: string }
  return (stderr || message).trim().replaceAll('\n', ' ')
}
