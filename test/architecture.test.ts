import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

// Goal: dependencies point down. Services use libraries, libraries use the domain, and each outside package has one importer. The
// exception is jose, which is also the only dependency of the SDKs for RPs and resource servers. Method: reads every import of every package. Each row
// lists the imports that a package may have besides its own files. Every outside name in a row must be declared in that package's
// own package.json, because hoisting hides a missing declaration.

const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  'libs/domain': [],
  'libs/ledger': ['node:', '@curfew/domain', 'pg'],
  'libs/broker': ['node:', '@curfew/domain', 'kafkajs', 'lz4-napi', 'snappy'],
  'libs/tokens': ['node:', '@curfew/domain', 'jose'],
  'libs/outbound': ['node:', '@curfew/domain', 'undici'],
  // Published alone for other people's applications: imports no package of ours and no module of Node.
  'libs/rp': ['jose'],
  // Published alone, for Node only: it hashes and pauses with modules of Node.
  'libs/rs': ['node:', 'jose'],
  'libs/runtime': [
    'node:',
    '@curfew/domain',
    'fastify',
    '@fastify/swagger',
    '@fastify/swagger-ui',
    '@fastify/type-provider-typebox',
    'typebox',
    'ajv',
    'pino',
    'prom-client',
    // The only importer of OpenTelemetry. Its SDK is loaded when a setting asks for traces.
    '@opentelemetry/api',
    '@opentelemetry/resources',
    '@opentelemetry/sdk-node',
  ],
  'libs/contract': ['@curfew/domain', 'typebox'],
  'libs/client': ['node:', '@curfew/domain', '@curfew/contract'],
  'libs/channels': ['node:', '@curfew/contract', '@curfew/domain', 'typebox'],
  // The one library that combines others: it opens the resources that every service needs. It verifies the logout tokens of the
  // relay with the SDK for RPs, because the relay takes the place of an RP.
  'libs/wiring': [
    'node:',
    '@curfew/client',
    '@curfew/contract',
    '@curfew/domain',
    '@curfew/ledger',
    '@curfew/broker',
    '@curfew/tokens',
    '@curfew/outbound',
    '@curfew/rp',
    '@curfew/runtime',
  ],
  // Runs the server of a ledger, and asks the ledger which errors mean that the server is unavailable.
  'libs/embedded': ['node:', '@curfew/domain', '@curfew/ledger', 'pg'],
  // Reads the requests of identity providers by the rules of the SDK for RPs, and keeps them in the durable queue of the client.
  'services/ingest': [
    '@curfew/wiring',
    '@curfew/client',
    '@curfew/contract',
    'node:',
    '@curfew/domain',
    '@curfew/ledger',
    '@curfew/rp',
    '@curfew/runtime',
    'typebox',
  ],
  'services/delivery': [
    '@curfew/channels',
    '@curfew/wiring',
    '@curfew/contract',
    'node:',
    '@curfew/domain',
    '@curfew/ledger',
    '@curfew/tokens',
    '@curfew/outbound',
    '@curfew/runtime',
    'p-retry',
  ],
  'services/bookkeeper': [
    '@curfew/channels',
    '@curfew/wiring',
    '@curfew/contract',
    'node:',
    '@curfew/domain',
    '@curfew/ledger',
    '@curfew/tokens',
    '@curfew/outbound',
    '@curfew/runtime',
    'parse5',
    'tough-cookie',
  ],
  'services/console': [
    '@curfew/channels',
    '@curfew/wiring',
    '@curfew/contract',
    'node:',
    '@curfew/domain',
    '@curfew/ledger',
    '@curfew/tokens',
    '@curfew/outbound',
    '@curfew/runtime',
    'typebox',
  ],
  // Composes the services. `curfew up` starts it.
  'services/standalone': [
    '@curfew/wiring',
    '@curfew/embedded',
    '@curfew/contract',
    'node:',
    '@curfew/ledger',
    '@curfew/broker',
    '@curfew/tokens',
    '@curfew/outbound',
    '@curfew/rp',
    '@curfew/runtime',
    '@curfew/client',
    '@curfew/ingest',
    '@curfew/delivery',
    '@curfew/console',
    '@curfew/bookkeeper',
  ],
  // Answers gateways. Has neither the ledger nor the event log, and verifies with the SDK for resource servers.
  'services/gate': [
    'node:',
    '@curfew/domain',
    '@curfew/outbound',
    '@curfew/rs',
    '@curfew/runtime',
    '@curfew/tokens',
  ],
  // Checks receipts by itself, because an auditor must not depend on the operator. Asks the channels where an IdP keeps the URL of a
  // client.
  'services/cli': [
    'commander',
    '@curfew/channels',
    '@curfew/contract',
    'node:',
    '@curfew/domain',
    '@curfew/broker',
    '@curfew/client',
    '@curfew/gate',
    '@curfew/ledger',
    '@curfew/tokens',
    '@curfew/runtime',
    '@curfew/standalone',
  ],
}

const IMPORT = /(?:\bfrom\s+|\bimport\s+|\bimport\(\s*|\bimport\.meta\.resolve\(\s*)['"]([^'"]+)['"]/g

/** The package of a specifier: `@scope/name` or `name`, without a subpath. */
function packageOf(specifier: string): string {
  if (specifier.startsWith('node:')) return 'node:'
  const parts = specifier.split('/')
  return parts.slice(0, specifier.startsWith('@') ? 2 : 1).join('/')
}

/** Whether a relative specifier names a source of the same package, or its package.json. */
function isWithin(folder: string, file: string, specifier: string): boolean {
  if (!specifier.startsWith('.')) return false
  const target = join(file, '..', specifier)
  return target.startsWith(`${folder}/src/`) || target === `${folder}/package.json`
}

function importsOf(folder: string): { file: string; specifier: string }[] {
  return readdirSync(`${folder}/src`, { recursive: true, encoding: 'utf8' })
    .filter((name) => /(?<!\.(test|fixture))\.ts$/.test(name))
    .flatMap((name) => {
      const source = readFileSync(`${folder}/src/${name}`, 'utf8').replaceAll(/^\s*(?:\/\/|\*|\/\*).*$/gm, '')
      return [...source.matchAll(IMPORT)].map(([, specifier = '']) => ({
        file: `${folder}/src/${name}`,
        specifier,
      }))
    })
    .filter(({ file, specifier }) => !isWithin(folder, file, specifier))
}

test('every package has a row', () => {
  const folders = ['libs', 'services'].flatMap((root) => readdirSync(root).map((name) => `${root}/${name}`))
  expect(folders.sort()).toEqual(Object.keys(ALLOWED).sort())
})

test.each(Object.entries(ALLOWED))('%s imports only allowed packages', (folder, names) => {
  const violations = importsOf(folder)
    .filter(({ specifier }) => !names.includes(packageOf(specifier)))
    .map(({ file, specifier }) => `${file} imports ${specifier}`)
  expect(violations).toEqual([])
})

test.each(Object.entries(ALLOWED))('%s declares its imports', (folder) => {
  const { dependencies = {} } = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8')) as {
    dependencies?: Record<string, string>
  }
  const used = new Set(importsOf(folder).map(({ specifier }) => packageOf(specifier)))
  used.delete('node:')
  expect([...used].filter((name) => dependencies[name] === undefined)).toEqual([])
})

test('every folder has a README', () => {
  const folders = Object.keys(ALLOWED).flatMap((folder) =>
    readdirSync(`${folder}/src`, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name)),
  )
  expect(folders.length).toBeGreaterThan(30)
  expect(folders.filter((folder) => !existsSync(join(folder, 'README.md')))).toEqual([])
})

test('a channel is named only in its own folder and in the index', () => {
  const root = 'libs/channels/src'
  const kinds = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  expect(kinds.length).toBeGreaterThan(1)
  const sources = [...Object.keys(ALLOWED).map((folder) => `${folder}/src`), 'migrations'].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => /(?<!\.(test|fixture))\.(ts|sql)$/.test(name))
      .map((name) => join(folder, name)),
  )
  const naming = kinds.flatMap(({ name: kind }) => {
    // A path such as `/backchannel-logout` is a different word. `admin` is also a scope and the reason of a logout, `revocation` is what
    // several channels do, and a cutoff is what an entry of the feed is.
    const word = ['admin', 'cutoff', 'revocation'].includes(kind)
      ? new RegExp(`kind\\b.{0,10}['"]${kind}['"]|channels\\.${kind}\\b|\\./${kind}/`)
      : new RegExp(`\\b${kind}\\b(?!-)`)
    return sources
      .filter((file) => !file.startsWith(`${root}/${kind}/`) && word.test(readFileSync(file, 'utf8')))
      .map((file) => `${file} names ${kind}`)
  })
  expect(naming.toSorted()).toEqual(
    ['admin', 'backchannel', 'cutoff', 'global_revocation', 'revocation'].map(
      (kind) => `${root}/index.ts names ${kind}`,
    ),
  )
})

test('each prepared statement has its own name', () => {
  // A connection accepts one statement per name, and reports a conflict only after both have run on it.
  const statements = new Map<string, Set<string>>()
  for (const file of readdirSync('libs/ledger/src', { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts')) continue
    const source = readFileSync(`libs/ledger/src/${file}`, 'utf8')
    for (const [, name = '', text = ''] of source.matchAll(/name: '(\w+)',\s*text: (\w+)/g))
      statements.set(name, (statements.get(name) ?? new Set()).add(`${file} ${text}`))
  }
  expect(statements.size).toBeGreaterThan(50)
  expect([...statements].filter(([, texts]) => texts.size > 1)).toEqual([])
})

test('only one module reads the environment', () => {
  const readers = Object.keys(ALLOWED).flatMap((folder) =>
    readdirSync(`${folder}/src`, { recursive: true, encoding: 'utf8' })
      .filter((name) => /(?<!\.(test|fixture))\.ts$/.test(name))
      .map((name) => `${folder}/src/${name}`)
      .filter((file) => readFileSync(file, 'utf8').includes('process.env')),
  )
  // The embedded server is a child process, which inherits the environment.
  expect(readers.sort()).toEqual(['libs/embedded/src/cluster.ts', 'libs/runtime/src/environment.ts'])
})
