import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { DEAD_LETTER_REASONS, NETWORK } from '@curfew/domain'
import { expect, test } from 'vitest'

// Goal: the documents list every setting, every metric and every reason of a dead letter, and none that does not exist.
// Method: compares the names in the sources with the first cells of the tables.

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const DOCUMENTS = globSync('docs/**/*.md', { cwd: ROOT })
  .map((path) => readFileSync(`${ROOT}/${path}`, 'utf8'))
  .join('\n\n')
const SOURCES = globSync('{services,libs}/*/src/**/*.ts', { cwd: ROOT })
  .filter((path) => !/\.(?:test|fixture)\.ts$/.test(path))
  .map((path) => readFileSync(`${ROOT}/${path}`, 'utf8'))
  .join('\n')

/** The captures of `pattern`, each once, in order. */
function captured(text: string, pattern: RegExp): readonly string[] {
  return [...new Set([...text.matchAll(pattern)].map(([, name = '']) => name))].sort()
}

/** The first cells of the table whose head begins with `head`, as one text. */
function firstCells(head: string): string {
  // The formatter aligns the columns.
  const pattern = new RegExp(`^\\| ${head.replaceAll(' | ', ' *\\| ')}\\b`, 'm')
  const [table = ''] = DOCUMENTS.slice(DOCUMENTS.search(pattern)).split('\n\n')
  return table.replaceAll(/^(\|[^|]*\|).*$/gm, '$1')
}

test('the documents list every setting of a service', () => {
  const read = captured(SOURCES, /'((?:CURFEW|KAFKA)_[A-Z_]+|DATABASE_URL|HOST|LOG_LEVEL)'/g)
  // Only the command line reads these two.
  const ofServices = read.filter((name) => !['CURFEW_URL', 'CURFEW_KEY'].includes(name))
  expect(ofServices).toContain('CURFEW_RETENTION_DAYS')
  expect(captured(firstCells('variable'), /`([A-Z_]+)`/g)).toEqual(ofServices)
})

test('the documents list every metric', () => {
  const made = captured(SOURCES, /\bmetrics\.(?:counter|gauges?|histogram)\(\s*'([a-z_]+)'/g)
  expect(made).toContain('sla_share_kept')
  const documented = captured(firstCells('metric'), /`([a-z_]+)`/g)
  expect(documented.filter((name) => name !== 'curfew_')).toEqual(made)
})

test('every metric of an alert exists', () => {
  const alerts = globSync('deploy/alerts/*.yaml', { cwd: ROOT })
    .map((path) => readFileSync(`${ROOT}/${path}`, 'utf8'))
    .join('\n')
  const asked = captured(alerts, /\bcurfew_([a-z_]+)/g)
  expect(asked).toContain('oldest_lease_seconds')
  const made = captured(SOURCES, /\bmetrics\.(?:counter|gauges?|histogram)\(\s*'([a-z_]+)'/g)
  expect(made).toEqual(expect.arrayContaining([...asked]))
})

test('the documents list every reason of a dead letter', () => {
  expect(captured(firstCells('reason | means'), /`([a-z_]+)`/g)).toEqual([...DEAD_LETTER_REASONS].sort())
})

test('the documents list every class of network failure', () => {
  expect(captured(firstCells('class | means'), /`([a-z_]+)`/g)).toEqual(Object.keys(NETWORK).sort())
})
