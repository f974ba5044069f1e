/** Text from elsewhere, in one line and without what a terminal would take for commands. */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ')
}

/** Rows in columns, the first row a head. Numbers stand to the right. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const cells = rows.map((row) => row.map((cell) => plain(String(cell))))
  const widths = (cells[0] ?? []).map((_, column) =>
    Math.max(...cells.map((row) => row[column]?.length ?? 0)),
  )
  return cells
    .map((row, line) =>
      row
        .map((cell, column) => {
          const width = widths[column] ?? 0
          return typeof rows[Math.max(line, 1)]?.[column] === 'number'
            ? cell.padStart(width)
            : cell.padEnd(width)
        })
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('')
}
