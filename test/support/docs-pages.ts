import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

// The documents of the repository in reading order: the README, then the pages in the order of docs/README.md.

export const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const INDEX = 'docs/README.md'

/** A fenced block. The words after its language are only for the tests: GitHub does not show them. */
export interface Block {
  readonly page: string
  /** The line of its opening fence, from 1. */
  readonly line: number
  readonly language: string
  readonly text: string
  /** Such as `exit=1` or `post=/v1/sessions`. */
  readonly attributes: Readonly<Record<string, string>>
  /** The reason that it is neither run nor checked; null if it is. */
  readonly notRun: string | null
}

export interface Page {
  /** Its path in the repository. */
  readonly path: string
  readonly text: string
  readonly blocks: readonly Block[]
}

/** Languages whose blocks are run, posted or compared, unless a block gives a reason not to. */
export const CHECKED_LANGUAGES: readonly string[] = ['sh', 'json', 'http', 'text']

export function readPages(): readonly Page[] {
  return pagePaths().map((path) => {
    const text = readFileSync(join(ROOT, path), 'utf8')
    return { path, text, blocks: blocksOf(path, text) }
  })
}

/** The pages of docs/ that its index does not list. */
export function unlistedPages(): readonly string[] {
  const listed = new Set(pagePaths())
  return globSync('docs/**/*.md', { cwd: ROOT }).filter((path) => !listed.has(path))
}

function pagePaths(): readonly string[] {
  const linked = pagesOf(INDEX)
  // The runbook is an index of its own.
  const pages = linked.flatMap((path) => (path.endsWith('/README.md') ? [path, ...pagesOf(path)] : [path]))
  return [...new Set(['README.md', ...(existsSync(join(ROOT, INDEX)) ? [INDEX] : []), ...pages])]
}

/** The pages that an index links. */
function pagesOf(index: string): readonly string[] {
  const text = existsSync(join(ROOT, index)) ? readFileSync(join(ROOT, index), 'utf8') : ''
  return linksOf(text)
    .map(({ target }) => normalize(join(dirname(index), target.replace(/#.*$/, ''))))
    .filter((path) => path.endsWith('.md') && !path.startsWith('libs/'))
}

function blocksOf(page: string, text: string): readonly Block[] {
  const blocks: Block[] = []
  const fence = /^( *)```(\w+)(?: +([^\n]*))?\n([\s\S]*?)^ *```$/gm
  for (const {
    0: whole,
    1: indent = '',
    2: language = '',
    3: words = '',
    4: body = '',
    index,
  } of text.matchAll(fence)) {
    if (whole === '') continue
    const [, reason] = /(?:^| )not-run: (.+)$/.exec(words) ?? []
    const attributes = Object.fromEntries(
      words
        .replace(/(?:^| )not-run: .*$/, '')
        .split(' ')
        .filter((word) => word !== '')
        .map((word) => {
          const [name = '', value = ''] = word.split(/=(.*)/s)
          return [name, value]
        }),
    )
    blocks.push({
      page,
      line: text.slice(0, index).split('\n').length,
      language,
      text: body.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
      attributes,
      notRun: reason ?? null,
    })
  }
  return blocks
}

export interface Link {
  readonly line: number
  readonly target: string
}

/** The links of a page to files and headings of the repository. */
export function linksOf(text: string): readonly Link[] {
  const prose = text.replaceAll(/^ *```[\s\S]*?^ *```$/gm, (block) => block.replaceAll(/[^\n]/g, ''))
  return [...prose.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)].map(({ 1: target = '', index }) => ({
    line: prose.slice(0, index).split('\n').length,
    target,
  }))
}

/** The broken links of a page. */
export function brokenLinks({ path, text }: Page): readonly string[] {
  return linksOf(text).flatMap(({ line, target }) => {
    const [file = '', anchor] = target.split('#')
    const to = file === '' ? path : normalize(join(dirname(path), file))
    if (!existsSync(join(ROOT, to))) return [`${path}:${line} ${target}`]
    if (anchor === undefined) return []
    return anchorsOf(readFileSync(join(ROOT, to), 'utf8')).includes(anchor)
      ? []
      : [`${path}:${line} ${target}`]
  })
}

/** The anchors that GitHub generates for the headings. */
function anchorsOf(text: string): readonly string[] {
  return [...text.matchAll(/^#+ +(.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  )
}
