import { execFile } from 'node:child_process'
import { open, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { endServers, gone, type Processes, serversOf } from '../support/processes.ts'

// A data folder on a disk that can be filled, without a spare disk.

const run = promisify(execFile)

export interface Disk extends AsyncDisposable {
  /** Describes the disk, for people. */
  readonly how: string
  readonly folder: string
  /** Leaves no byte for the process `curfew` and its PostgreSQL, including processes that they start later. */
  fill(curfew: number): Promise<void>
  free(curfew: number): Promise<void>
}

/** Room for an empty database, its write-ahead log, and the writes of a test that runs for minutes. */
const SIZE_MIB = 512
const BLOCK = Buffer.alloc(1_048_576)
/** So small that PostgreSQL can write only the first blocks of its files. */
const FILE_BYTES_MAX = 65_536

/**
 * Opens a small file system in memory if one can be mounted, which takes root on Linux. Elsewhere on Linux it limits the size of
 * files. Writes then fail with another error, and the write-ahead log is hit first.
 *
 * @returns the reason if neither works.
 */
export async function openDisk(processes: Processes): Promise<Disk | { readonly missing: string }> {
  const folder = await processes.dataFolder()
  const options = `size=${SIZE_MIB}m,mode=0755`
  const unmountable = await run('mount', ['-t', 'tmpfs', '-o', options, 'curfew-chaos', folder]).then(
    () => null,
    messageOf,
  )
  if (unmountable === null) return onFileSystem(folder)
  const unlimitable = await run('prlimit', ['--version']).then(() => null, messageOf)
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
          // The last bytes are filled in small writes.
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
        // Runs as the owner of the process and sets the soft limit only. Neither this nor undoing it needs a privilege.
        const { uid, gid } = await stat(`/proc/${pid}`)
        await run('prlimit', ['--pid', String(pid), `--fsize=${bytes}:`], { uid, gid })
      } catch (error) {
        // A process of PostgreSQL may have ended meanwhile.
        if (pid === curfew || !/No such (?:process|file)/i.test(messageOf(error))) throw error
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

function messageOf(error: unknown): string {
  const { stderr, message } = error as { readonly stderr?: string; readonly message: string }
  return (stderr || message).trim().replaceAll('\n', ' ')
}
