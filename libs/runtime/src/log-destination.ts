import { type DestinationStream, pino } from 'pino'

/** Where log lines go. */
export interface LogDestination extends DestinationStream {
  /** Writes the lines that wait in memory. Absent if no line waits. */
  flush?(): void
}

/** Lines are written when they reach this size, in UTF-16 units. Docker splits writes of more than 16 KiB. */
const BUFFER_MAX = 8 * 1_024
/** The longest time that a line waits in memory, in milliseconds. */
const WAIT_MS_MAX = 100

/**
 * Collects lines and writes them together, because a system call for each line costs more than the line. The lines are written at
 * 8 KiB, after 100 ms, on `flush`, and when the process exits, also after an uncaught error. Only a process that the operating
 * system ends without notice, as with SIGKILL, loses the lines of its last 100 ms.
 */
export function bufferLines(sink: DestinationStream): Required<LogDestination> {
  let waiting = ''
  let timer: NodeJS.Timeout | null = null
  const flush = () => {
    if (timer !== null) clearTimeout(timer)
    timer = null
    if (waiting === '') return
    const lines = waiting
    // Emptied first: a sink that fails, such as a closed pipe, must not get the same lines again and again.
    waiting = ''
    sink.write(lines)
  }
  process.on('exit', flush)
  return {
    write(line) {
      waiting += line
      if (waiting.length >= BUFFER_MAX) flush()
      else timer ??= setTimeout(flush, WAIT_MS_MAX).unref()
    },
    flush,
  }
}

let standardError: LogDestination | null = null

/** Standard error, which leaves standard output to requested output. All logs of a process share it, so that lines keep their order. */
export function openStandardError(): LogDestination {
  standardError ??= bufferLines(pino.destination({ dest: 2, sync: true }))
  return standardError
}

/** Opens a file for log lines to be appended. Makes the file and its folder if they are missing. */
export const openLogFile = (path: string): LogDestination =>
  bufferLines(pino.destination({ dest: path, mkdir: true, sync: true }))
