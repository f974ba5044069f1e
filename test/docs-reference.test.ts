import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { DEAD_LETTER_REASONS, NETWORK } from '@curfew/domain'
import { expect, test } from 'vitest'
import { COMMANDS } from '../services/cli/src/commands.ts'

// Goal: an operator finds every setting, metric, log event, notification, error title, command and dead-letter reason in the documents, and
// none that does not exist.
// Method: compares the names in the sources with the first cells of the tables.

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFileSync(`${ROOT}/${path}`, 'utf8')
const sourcesOf = (pattern: string) =>
  globSync(pattern, { cwd: ROOT })
    .filter((path) => !/\.(?:test|fixture)\.ts$/.test(path))
    .map(read)
    .join('\n')
const SOURCES = sourcesOf('{services,libs}/*/src/**/*.ts')

/** The captures of `pattern`, each once, in order. */
function captured(text: string, pattern: RegExp): readonly string[] {
  return [...new Set([...text.matchAll(pattern)].map(([, name = '']) => name))].sort()
}

/** The rows of the tables of a page whose head begins with these words, as cells. */
function rowsOf(page: string, head: string): readonly (readonly string[])[] {
  // The formatter aligns the columns.
  const pattern = new RegExp(`^\\| ${head.replaceAll(' | ', ' *\\| ')} *\\|`)
  return read(`docs/${page}`)
    .split('\n\n')
    .filter((block) => pattern.test(block))
    .flatMap((table) => table.trim().split('\n').slice(2))
    .map((row) => row.split('|').slice(1, -1))
}

/** The code words in one column of the tables, each once, in order. */
function codes(page: string, head: string, column = 0): readonly string[] {
  return captured(
    rowsOf(page, head)
      .map((cells) => cells[column] ?? '')
      .join('\n'),
    /`([^`]+)`/g,
  )
}

const METRIC = /\bmetrics\.(?:counter|gauges?|histogram)\(\s*'([a-z_]+)'/g

test('settings.md lists every setting', () => {
  const found = captured(SOURCES, /'((?:CURFEW|KAFKA)_[A-Z_]+|DATABASE_URL|HOST|PORT|LOG_LEVEL)'/g)
  const ofCommandLine = ['CURFEW_KEY', 'CURFEW_URL']
  expect(found).toContain('CURFEW_RETENTION_DAYS')
  expect(codes('reference/settings.md', 'variable')).toEqual(
    found.filter((name) => !ofCommandLine.includes(name)),
  )
  expect(codes('reference/cli.md', 'option', 1)).toEqual(ofCommandLine)
})

test('retention.md lists every retention setting', () => {
  const found = captured(SOURCES, /'(CURFEW_[A-Z_]*RETENTION_DAYS)'/g)
  expect(codes('reference/retention.md', 'what \\(table\\)', 2)).toEqual(found)
})

test('metrics.md lists every metric', () => {
  const made = captured(SOURCES, METRIC)
  expect(made).toContain('sla_share_kept')
  expect(codes('reference/metrics.md', 'metric')).toEqual(made.map((name) => `curfew_${name}`))
})

test('metrics.md lists the labels of every metric', () => {
  const made = SOURCES.matchAll(/\bmetrics\.(?:counter|gauges?)\(\s*'([a-z_]+)',\s*'[^']*',\s*\[([^\]]*)\]/g)
  const labels = [...made].map(([, name = '', list = '']) => [`curfew_${name}`, captured(list, /'(\w+)'/g)])
  expect(labels.length).toBeGreaterThan(10)
  const told = rowsOf('reference/metrics.md', 'metric').map(([metric = '', cell = '']) => [
    metric.replaceAll('`', '').trim(),
    captured(cell, /`(\w+)`/g),
  ])
  expect(told).toEqual(expect.arrayContaining(labels))
})

test('every metric that an alert asks about exists', () => {
  const alerts = globSync('deploy/alerts/*.yaml', { cwd: ROOT }).map(read).join('\n')
  const asked = captured(alerts, /\bcurfew_([a-z_]+)/g)
  expect(asked).toContain('oldest_lease_seconds')
  expect(captured(SOURCES, METRIC)).toEqual(expect.arrayContaining([...asked]))
})

test('logs.md lists every log event', () => {
  // The names on the lines that build a log line. `${name}.failed` is listed as `NAME.failed`.
  const lines = SOURCES.split('\n')
    .filter((line) => /^(?!.*(?:\*|title:)).*\bevent(?::| =) /.test(line))
    .join('\n')
    .replaceAll(/`\$\{[\w.]+\}\.([a-z-]+)`/g, "'NAME.$1'")
  const found = captured(lines, /'((?:NAME|[a-z-]+)\.[a-z_-]+)'/g)
  expect(found).toEqual(expect.arrayContaining(['delivery.attempted', 'NAME.not-ended']))
  expect(codes('reference/logs.md', 'event | level')).toEqual(found)
})

test('why-a-delivery-failed.md lists every reason of a dead letter', () => {
  expect(codes('rp/why-a-delivery-failed.md', 'reason | means | fix')).toEqual(
    [...DEAD_LETTER_REASONS].sort(),
  )
})

test('why-a-delivery-failed.md lists every network failure', () => {
  expect(codes('rp/why-a-delivery-failed.md', 'class | means | fix')).toEqual(Object.keys(NETWORK).sort())
})

test('events.md lists every type of notification', () => {
  const [, list = ''] =
    /NOTIFICATION_TYPES = \[(.*?)\]/s.exec(read('libs/contract/src/api/webhooks.ts')) ?? []
  const types = captured(list, /'([a-z_.]+)'/g)
  expect(types).toContain('record.removed')
  expect(codes('reference/events.md', '`type` | when')).toEqual([...types, 'webhook.test'].sort())
})

test.each([
  ['an outcome', 'outcome.ts'],
  ['a dead letter', 'dead-letter.ts'],
])('members of %s', (what, file) => {
  const [, published = ''] =
    /const published = \{\n(.*?)\n {2}\}/s.exec(read(`libs/contract/src/records/${file}`)) ?? []
  const members = captured(published, /^ {4}(\w+)(?=[:,])/gm)
  expect(members).toContain('delivery_id')
  expect(codes('reference/events.md', `member of ${what}`)).toEqual(members)
})

test('errors.md lists every title of a problem', () => {
  const api = sourcesOf('{services/{ingest,console},libs/runtime}/src/**/*.ts')
    // Schemas and OpenAPI documents have titles of another kind.
    .replaceAll(/^.*(?:additionalProperties|Type\.|title: 'Curfew).*$/gm, '')
  const titles = [
    ...captured(api, /\btitle: (?:\w+ \? )?'([^']+)'/g),
    ...captured(api, /\btitle: \w+ \? '[^']+' : '([^']+)'/g),
    ...captured(api, /\b(?:refusal|cannot|readable)\(\s*(?:\d+, *\s*|'\w+', *)?'([A-Z][^'.]+)'/g),
  ]
  const own = [...new Set(titles)].filter((title) => !title.startsWith('Invalid ')).sort()
  expect(own).toContain('Rotation under way')
  expect(codes('reference/errors.md', 'title')).toEqual(own)
})

test('cli.md lists every command', () => {
  expect(Object.keys(COMMANDS)).toContain('issuer-logout')
  expect(codes('reference/cli.md', 'command | does')).toEqual(Object.keys(COMMANDS).sort())
})

test('cli.md lists every subcommand', async () => {
  for (const [command = '', does = ''] of rowsOf('reference/cli.md', 'command | does')) {
    const name = command.replaceAll('`', '').trim()
    const declared = await COMMANDS[name]?.()
    const subcommands = declared !== undefined && 'commands' in declared ? Object.keys(declared.commands) : []
    expect(captured(does, /`([a-z]+)`/g), name).toEqual(subcommands.sort())
  }
})
