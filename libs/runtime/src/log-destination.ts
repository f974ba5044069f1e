import { mkdirSync, openSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import type { DestinationStream } from 'pino'

/** Where log lines go. */
export interface LogDestination extends DestinationStream {
  /** Writes the lines that wait in memory. Absent if no line waits. */
  flush?(): void
  /** The number of lines that could not be written, counted once lines can be written again. Counts each line once. */
  takeLost?(): number
}

/** Lines are written when they reach this size, in UTF-16 units. Docker splits writes of more than 16 KiB. */
const BUFFER_MAX = 8 * 1_024
/** The longest time that a line waits in memory, in milliseconds. */
const WAIT_MS_MAX = 100

/**
 * Collects lines and writes them together, because a system call for each line costs more than the line. The lines are written at
 * 8 KiB, after 100 ms, on `flush`, and when the process exits, also after an uncaught error. Only a process that the operating
 * system ends without notice, as with SIGKILL, loses the lines of its last 100 ms.
 *
 * A sink that fails, such as a full disk or a closed pipe, costs lines and nothing else: logouts go on without a log.
 */
export function bufferLines(sink: DestinationStream): Required<LogDestination> {
  let waiting = ''
  let timer: NodeJS.Timeout | null = null
  let lost = 0
  let fails = false
  const flush = () => {
    if (timer !== null) clearTimeout(timer)
    timer = null
    if (waiting === '') return
    const lines = waiting
    // The sink must not get the same lines again and again, so memory is bounded.
    waiting = ''
    try {
      sink.write(lines)
      fails = false
    } catch {
      // There is no other place for this error. Its lines are counted.
      fails = true
      lost += lines.split('\n').length - 1
    }
  }
  process.on('exit', flush)
  return {
    write(line) {
      waiting += line
      if (waiting.length >= BUFFER_MAX) flush()
      else timer ??= setTimeout(flush, WAIT_MS_MAX).unref()
    },
    flush,
    takeLost() {
      if (fails || lost === 0) return 0
      const lines = lost
      lost = 0
      return lines
    },
  }
}

/** Pause before a busy pipe is tried again, in milliseconds, and how often it is tried. */
const BUSY = { pauseMs: 20, tries: 50 }

/**
 * Writes texts to an open file, in the order of the calls, before the call returns. Waits for a pipe whose reader is slow. After a
 * failure it does not wait until the next success: a reader that stands still must not hold up the process at each line.
 *
 * @throws the error of the file system. A part of the text may be written then.
 */
function writerTo(fd: number): DestinationStream {
  const pause = new Int32Array(new SharedArrayBuffer(4))
  let fails = false
  return {
    write(text) {
      let rest = Buffer.from(text)
      let tries = fails ? BUSY.tries : 0
      fails = true
      while (rest.length > 0) {
        try {
          rest = rest.subarray(writeSync(fd, rest))
        } catch (error) {
          tries += 1
          const isBusy = error instanceof Error && 'code' in error && error.code === 'EAGAIN'
          if (!isBusy || tries > BUSY.tries) throw error
          Atomics.wait(pause, 0, 0, BUSY.pauseMs)
        }
      }
      fails = false
    },
  }
}

let standardError: LogDestination | null = null

/** Standard error, which leaves standard output to requested output. All logs of a process share it, so that lines keep their order. */
export function openStandardError(): LogDestination {
  standardError ??= bufferLines(writerTo(2))
  return standardError
}

/** Opens a file for log lines to be appended. Makes the file and its folder if they are missing. */
export function openLogFile(path: string): LogDestination {
  mkdirSync(dirname(path), { recursive: true })
  return bufferLines(writerTo(openSync(path, 'a')))
}
