// Compares the output in a document with the output of a run. Ids, times and durations differ from run to run.

const VARIABLE: readonly (readonly [RegExp, string])[] = [
  [/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, '<id>'],
  // An id that a document shortens.
  [/[0-9a-f]{8}-(?=…)/g, ''],
  [/\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?Z/g, '<time>'],
  [/cfw_[\w-]{43}/g, '<key>'],
  [/\b\d+(?:\.\d+)? ms\b/g, '<duration>'],
  // A duration in milliseconds in the column after the start of an attempt.
  [/(?<=<time>) +\d+(?= )/g, ' <number>'],
  // The last column of a table.
  [/(?<= )\d+$/gm, '<number>'],
  // The day of a time in a table.
  [/\b\d{4}-\d\d-\d\d\b/g, '<date>'],
  // Columns are as wide as their longest cell.
  [/[ \t]+/g, ' '],
]
/** Members that hold a duration or a time of the run. */
const VARIABLE_MEMBER = /_(?:ms|s)$/

function normalized(text: string): string {
  return VARIABLE.reduce((rest, [pattern, name]) => rest.replaceAll(pattern, name), text).trim()
}

/** Whether `actual` matches `expected`, in which `…` stands for any text. */
function isLike(expected: string, actual: string): boolean {
  const parts = normalized(expected)
    .split('…')
    .map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`, 's').test(normalized(actual))
}

/** The first difference between texts by line; null if there is none. A line `…` stands for any number of lines. */
export function differenceOfText(expected: string, actual: string): string | null {
  const filled = (text: string) => text.split('\n').filter((line) => line.trim() !== '')
  const lines = filled(actual)
  // Adjacent lines stay adjacent: each run of lines is searched for as a whole.
  const runs: string[][] = [[]]
  for (const line of filled(expected)) {
    if (line.trim() === '…') runs.push([])
    else runs.at(-1)?.push(line)
  }
  let at = 0
  for (const [index, run] of runs.entries()) {
    const fits = (start: number) => run.every((line, offset) => isLike(line, lines[start + offset] ?? ''))
    const starts = Array.from({ length: lines.length - at + 1 }, (_, offset) => at + offset)
    const isLast = index === runs.length - 1
    const start = starts.find(
      (each) =>
        fits(each) &&
        (index > 0 || each === 0) &&
        (!isLast || run.length === 0 || each + run.length === lines.length),
    )
    if (start === undefined) return `no lines like:\n${run.join('\n')}`
    at = start + run.length
  }
  return at >= lines.length || runs.at(-1)?.length === 0 ? null : `an unexpected line "${lines[at]}"`
}

/** The first difference from the JSON shown; null if there is none. Members that are not shown do not count. */
export function differenceOfJson(expected: unknown, actual: unknown, at = ''): string | null {
  if (typeof expected === 'string') {
    return typeof actual === 'string' && isLike(expected, actual)
      ? null
      : `${at} is ${JSON.stringify(actual)}, not ${expected}`
  }
  if (Array.isArray(expected)) {
    const shown: readonly unknown[] = expected.at(-1) === '…' ? expected.slice(0, -1) : expected
    if (!Array.isArray(actual) || actual.length < shown.length) return `${at} has too few elements`
    if (shown === expected && actual.length > shown.length) return `${at} has more elements`
    return firstOf(shown.map((element, index) => differenceOfJson(element, actual[index], `${at}/${index}`)))
  }
  if (typeof expected === 'object' && expected !== null) {
    if (typeof actual !== 'object' || actual === null)
      return `${at} is ${JSON.stringify(actual)}, not an object`
    const members = Object.entries(expected)
    return firstOf(
      members.map(([name, value]) =>
        differenceOfJson(value, (actual as Readonly<Record<string, unknown>>)[name], `${at}/${name}`),
      ),
    )
  }
  const varies = VARIABLE_MEMBER.test(at) && typeof expected === 'number' && typeof actual === 'number'
  return varies || expected === actual ? null : `${at} is ${JSON.stringify(actual)}, not ${String(expected)}`
}

function firstOf(differences: readonly (string | null)[]): string | null {
  return differences.find((difference) => difference !== null) ?? null
}
