import { UsageError } from '../terminal/arguments.ts'

/** One JSON value of a file. */
export interface FileValue {
  /** The number of its first line, from 1; null: the file is this one value. */
  readonly line: number | null
  /** Undefined: `text` is not JSON. */
  readonly value: unknown
  readonly text: string
}

/**
 * The JSON values of a text: one, one for each line (NDJSON), or several that follow each other, as `jq` prints them. A line of
 * NDJSON may be faulty.
 *
 * @param file its name, for errors. @throws {UsageError} if the text is none of these.
 */
export function valuesOf(text: string, file: string): readonly FileValue[] {
  const whole = parsed(text)
  if (whole !== undefined) return [{ line: null, value: whole, text }]
  const lines = text.split('\n').flatMap((line, index): FileValue[] => {
    const trimmed = line.trim()
    return trimmed === '' ? [] : [{ line: index + 1, value: parsed(trimmed), text: trimmed }]
  })
  if (lines.length === 0) throw new UsageError(`${file} is empty.`)
  const objects = lines.filter(({ value }) => typeof value === 'object' && value !== null)
  if (objects.length > lines.length / 2) return lines
  return sequenceOf(text) ?? refuse(text, file)
}

/** The values that follow each other in a text; null if it is not such a sequence. */
function sequenceOf(text: string): readonly FileValue[] | null {
  const values: FileValue[] = []
  let [start, depth, line, startLine, quoted] = [0, 0, 1, 1, false]
  for (let index = 0; index < text.length; index++) {
    const char = text[index]
    if (char === '\n') line += 1
    if (quoted) {
      if (char === '\\') index += 1
      else if (char === '"') quoted = false
    } else if (char === '"') quoted = true
    else if (char === '{' || char === '[') {
      if (depth === 0) {
        if (text.slice(start, index).trim() !== '') return null
        start = index
        startLine = line
      }
      depth += 1
    } else if (char === '}' || char === ']') {
      depth -= 1
      if (depth !== 0) continue
      const value = parsed(text.slice(start, index + 1))
      if (value === undefined) return null
      values.push({ line: startLine, value, text: text.slice(start, index + 1) })
      start = index + 1
    }
  }
  return depth === 0 && text.slice(start).trim() === '' && values.length > 0 ? values : null
}

/** Names the format of a text that is not JSON. @throws {UsageError} */
function refuse(text: string, file: string): never {
  const [first = ''] = text
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.trimStart().startsWith('#'))
  if (/^(?:---|%YAML|- |[\w.'"-]+:(?:\s|$))/.test(first))
    throw new UsageError(
      `${file} is YAML, which Curfew does not read. Convert it, for example with: yq -o=json . ${file}`,
    )
  if (first.trimStart().startsWith('<'))
    throw new UsageError(`${file} is XML or HTML, which Curfew does not read. Give the export in JSON.`)
  throw new UsageError(`${file} is neither JSON nor NDJSON${faultIn(text)}.`)
}

/** The place of the first fault of a JSON text, if the parser names it. Its other words may have a secret of the text. */
export function faultIn(text: string): string {
  try {
    JSON.parse(text)
    return ''
  } catch (error) {
    const [, place] = /\bat position (\d+)/.exec(String(error)) ?? []
    const isCut =
      /end of JSON input|Unterminated string/.test(String(error)) || Number(place) >= text.trimEnd().length
    if (isCut) return ': it ends too early. Export it again, or copy all of it'
    return place === undefined ? '' : `: line ${text.slice(0, Number(place)).split('\n').length} is faulty`
  }
}

/** A JSON text, parsed; undefined if it is not one. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
