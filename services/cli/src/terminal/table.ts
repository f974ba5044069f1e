/** Text from outside as one line without control characters, which a terminal would execute. */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ')
}

const GAP = '  '

/**
 * Formats rows as a table with the first row as its head. Numbers are aligned to the right. On a terminal, a table wider than
 * `widthMax` characters is wrapped between words, the widest column first. Elsewhere each row is one line, for grep.
 */
export function table(
  rows: readonly (readonly (string | number)[])[],
  widthMax: number = process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY,
): string {
  const cells = rows.map((row) => row.map((cell) => plain(String(cell))))
  const widths = columnWidths(cells, widthMax)
  return cells
    .flatMap((row, line) => {
      const wrapped = row.map((cell, column) => wrap(cell, widths[column] ?? 0))
      const height = Math.max(...wrapped.map((parts) => parts.length))
      return Array.from({ length: height }, (_, part) =>
        wrapped
          .map((parts, column) => {
            const text = parts[part] ?? ''
            const width = widths[column] ?? 0
            return typeof rows[Math.max(line, 1)]?.[column] === 'number'
              ? text.padStart(width)
              : text.padEnd(width)
          })
          .join(GAP)
          .trimEnd(),
      )
    })
    .map((line) => `${line}\n`)
    .join('')
}

/** The widths of the columns: those of the widest cells, reduced to fit into `widthMax`, but never below the longest word. */
function columnWidths(cells: readonly (readonly string[])[], widthMax: number): readonly number[] {
  const columns = (cells[0] ?? []).map((_, column) => cells.map((row) => row[column] ?? ''))
  const widths = columns.map((column) => Math.max(...column.map((cell) => cell.length)))
  const least = columns.map((column) =>
    Math.max(...column.flatMap((cell) => cell.split(' ').map((word) => word.length))),
  )
  const room = widthMax - GAP.length * (widths.length - 1)
  let excess = widths.reduce((sum, width) => sum + width, 0) - room
  while (excess > 0) {
    const slack = widths.map((width, column) => (width > (least[column] ?? 0) ? width : 0))
    const widest = slack.indexOf(Math.max(...slack))
    if (slack[widest] === 0) break
    widths[widest] = (widths[widest] ?? 0) - 1
    excess -= 1
  }
  return widths
}

function wrap(text: string, width: number): readonly string[] {
  if (text.length <= width) return [text]
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}
