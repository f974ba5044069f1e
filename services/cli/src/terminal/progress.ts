/** The part of a stream that a progress bar needs. */
export interface Screen {
  readonly isTTY?: boolean
  write(text: string): unknown
}

export interface Progress {
  show(done: number, total: number, note: string): void
  /** Keeps the bar, and continues on the next line. */
  end(): void
}

const WIDTH = 30

/**
 * A progress bar. On a terminal it overwrites itself. Elsewhere, such as in the log of a job, it prints a line for each tenth.
 */
export function createProgress(screen: Screen): Progress {
  let shown = ''
  let tenth = -1
  return {
    show(done, total, note) {
      const share = total === 0 ? 1 : Math.min(1, done / total)
      const filled = Math.round(share * WIDTH)
      const bar = `[${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}]`
      const line = `${bar} ${String(Math.floor(share * 100)).padStart(3)} %  ${note}`
      if (screen.isTTY === true) {
        if (line !== shown) screen.write(`\r${line.padEnd(shown.length)}`)
      } else if (Math.floor(share * 10) > tenth) {
        tenth = Math.floor(share * 10)
        screen.write(`${line}\n`)
      }
      shown = line
    },
    end() {
      if (screen.isTTY === true && shown !== '') screen.write('\n')
    },
  }
}
