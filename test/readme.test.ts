import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

// Goal: who runs Curfew finds every setting and every metric in README, and none there that is no more.
// Method: the names that the sources read and make, beside those that README's tables have.

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const README = readFileSync(`${ROOT}/README.md`, 'utf8')
const SOURCES = globSync('{services,libs}/*/src/**/*.ts', { cwd: ROOT })
  .filter((path) => !/\.(?:test|fixture)\.ts$/.test(path))
  .map((path) => readFileSync(`${ROOT}/${path}`, 'utf8'))
  .join('\n')

/** What `pattern` captures, each once, in order. */
function captured(text: string, pattern: RegExp): readonly string[] {
  return [...new Set([...text.matchAll(pattern)].map(([, name = '']) => name))].sort()
}

/** The first cells of the table whose head begins so, as one text. */
function firstCells(head: string): string {
  const [table = ''] = README.slice(README.indexOf(`\n| ${head}`) + 1).split('\n\n')
  return table.replaceAll(/^(\|[^|]*\|).*$/gm, '$1')
}

test('settings', () => {
  const read = captured(SOURCES, /'((?:CURFEW|KAFKA)_[A-Z_]+|DATABASE_URL|HOST|LOG_LEVEL)'/g)
  // These two are of the command line, and told of where that is.
  const ofServices = read.filter((name) => !['CURFEW_URL', 'CURFEW_KEY'].includes(name))
  expect(ofServices).toContain('CURFEW_RETENTION_DAYS')
  expect(captured(firstCells('variable'), /`([A-Z_]+)`/g)).toEqual(ofServices)
})

test('metrics', () => {
  const made = captured(SOURCES, /\bmetrics\.(?:counter|gauges?|histogram)\(\s*'([a-z_]+)'/g)
  expect(made).toContain('sla_share_kept')
  const told = captured(firstCells('metric'), /`([a-z_]+)`/g)
  expect(told.filter((name) => name !== 'curfew_')).toEqual(made)
})

test('every metric that an alert asks about exists', () => {
  const alerts = globSync('deploy/alerts/*.yaml', { cwd: ROOT })
    .map((path) => readFileSync(`${ROOT}/${path}`, 'utf8'))
    .join('\n')
  const asked = captured(alerts, /\bcurfew_([a-z_]+)/g)
  expect(asked).toContain('oldest_lease_seconds')
  const made = captured(SOURCES, /\bmetrics\.(?:counter|gauges?|histogram)\(\s*'([a-z_]+)'/g)
  expect(made).toEqual(expect.arrayContaining([...asked]))
})
