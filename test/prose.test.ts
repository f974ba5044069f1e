import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

// Goal: sources, migrations and documents stay in plain English.
// Method: refuses words that stand in for a name, and comment sentences that open with one.

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const SELF = 'test/prose.test.ts'
const SOURCES = globSync('{libs,services,test,deploy}/**/*.{ts,mjs}', {
  cwd: ROOT,
  exclude: ['**/node_modules/**', 'libs/*/dist/**'],
}).filter((path) => path !== SELF)
const MIGRATIONS = globSync('migrations/*.sql', { cwd: ROOT })
const DOCUMENTS = globSync(['*.md', 'docs/**/*.md', '{libs,services,test,deploy}/**/*.md'], {
  cwd: ROOT,
  exclude: ['**/node_modules/**', 'libs/*/dist/**'],
})

/** Words that stand in for a name, and private words for things that have a common one. */
const REFUSED =
  /\b(?:whom|whomever|whoever|nobody|somebody|anew|chores?|poster|posters|holders?|confines)\b/gi
/** An opening that makes the reader search for the subject of the sentence. A question may start this way. */
const OPENING = /^(?:Who|Whom|Whose|Of what|Of whom|What)\b(?!.*\?$)/
/** Uses of a refused word with another meaning: the path, and the accepted text. */
const ALLOWED: readonly (readonly [path: RegExp, text: RegExp])[] = [
  // The user `nobody` exists on every Unix.
  [/^libs\/embedded\//, /'nobody'|user nobody/g],
]

function lineOf(text: string, index: number): number {
  return text.slice(0, index).split('\n').length
}

/** The comments of a source. Adjacent comment lines form one text. */
function commentsOf(
  text: string,
  marker: RegExp,
): readonly { readonly line: number; readonly text: string }[] {
  const comments: { line: number; text: string }[] = []
  let last = -1
  for (const [index, line] of text.split('\n').entries()) {
    const [, words] = marker.exec(line) ?? []
    if (words === undefined) continue
    const current = comments.at(-1)
    const begins = /^\s*\/\*\*|^\s*\*?\s*@|^\s*\*?\s*-\s/.test(line)
    if (current !== undefined && last === index - 1 && words !== '' && !begins) current.text += ` ${words}`
    else comments.push({ line: index + 1, text: words })
    last = index
  }
  return comments
}
const TS_COMMENT = /^\s*(?:\/\/+|\/\*\*?|\*(?!\/))\s*(?:@\w+\s+)?(.*?)\s*(?:\*\/)?$/
const SQL_COMMENT = /^\s*--\s*(.*)$/

function* refusedWords(path: string, text: string): Iterable<string> {
  const exceptions = ALLOWED.filter(([where]) => where.test(path))
  const read = exceptions.reduce(
    (rest, [, what]) => rest.replaceAll(what, (taken) => ' '.repeat(taken.length)),
    text,
  )
  for (const { 0: word, index } of read.matchAll(REFUSED)) yield `${path}:${lineOf(text, index)} ${word}`
}

function* refusedOpenings(path: string, text: string, marker: RegExp): Iterable<string> {
  for (const comment of commentsOf(text, marker)) {
    for (const sentence of comment.text.split(/(?<=[.!?])\s+/)) {
      if (OPENING.test(sentence)) yield `${path}:${comment.line} ${sentence.slice(0, 60)}`
    }
  }
}

test.each([
  ['sources', SOURCES, TS_COMMENT],
  ['migrations', MIGRATIONS, SQL_COMMENT],
  ['documents', DOCUMENTS, /^\s*(?:[-*>|]\s*)*(.*)$/],
] as const)('%s have no refused word and no refused opening', (_, paths, marker) => {
  expect(paths).not.toEqual([])
  const found = paths.flatMap((path) => {
    const text = readFileSync(`${ROOT}/${path}`, 'utf8')
    return [...refusedWords(path, text), ...refusedOpenings(path, text, marker)]
  })
  expect(found).toEqual([])
})

test('refused words and refused openings are found', () => {
  const source = "// Whom a logout is\n// about is asked.\nconst a = 'nobody'\n/** What is it? What waits. */"
  expect([...refusedWords('a.ts', source)]).toEqual(['a.ts:1 Whom', 'a.ts:3 nobody'])
  expect([...refusedOpenings('a.ts', source, TS_COMMENT)]).toEqual([
    'a.ts:1 Whom a logout is about is asked.',
    'a.ts:4 What waits.',
  ])
})
