import { type Client, createClient } from '@curfew/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FAULT_PAGES } from '../alerts/fault-pages.ts'
import { differenceOfJson, differenceOfText } from '../support/docs-compare.ts'
import {
  type Block,
  brokenLinks,
  CHECKED_LANGUAGES,
  type Page,
  readPages,
  unlistedPages,
} from '../support/docs-pages.ts'
import { openShell, type Shell } from '../support/docs-shell.ts'
import { openWorld, type World } from '../support/docs-world.ts'
import { spawnStandalone, useProcesses } from '../support/processes.ts'

// Goal: everything that a document shows works as it is pasted, in the order in which it stands.
// Method: runs every block of the README and of docs/ against one `curfew up --demo`; the hosts of the documents are on this machine.
//
// The words after the language of a fence are for this test:
//   ```sh                   is run; exit=1: ends with that status
//   ```text, ```json        is the output of the ```sh block before it; … stands for any text, a line … for any lines
//   ```json post=/v1/…      is sent there (also put=, patch=), and must be taken; get=/v1/…: is the answer of that
//   ```text output=demo     is what the demo has printed
//   ```http                 is a request that a host of the documents has received
//   … scene=NAME            waits for the test of the runbook, test/alerts/runbook.test.ts
//   … not-run: reason       is neither run nor checked, and is in the list below

const PAGE_MS = 300_000
const DEMO_CLIENTS: readonly string[] = ['crm', 'mail', 'wiki']
/** Every block that is not run. To add one is a decision: a block that cannot be run can be wrong. */
const NOT_RUN: readonly string[] = [
  'README.md sh: installs and starts',
  'docs/idp/auth0.md sh: needs a tenant',
  'docs/idp/auth0.md sh: needs a tenant',
  'docs/idp/entra.md sh: needs a tenant',
  ...Array<string>(8).fill('docs/idp/hydra.md sh: needs the IdP'),
  'docs/idp/keycloak-broker.md text: a form',
  'docs/idp/keycloak.md sh: makes a key of a realm',
  ...Array<string>(3).fill('docs/idp/keycloak.md sh: needs the IdP'),
  'docs/idp/keycloak.md sh: needs the export of a realm',
  'docs/idp/relay.md text: a form',
  ...Array<string>(5).fill('docs/idp/admin-api.md sh: needs the IdP'),
  'docs/idp/oidc-provider.md sh: needs the private key of an IdP',
  'CONTRIBUTING.md sh: takes minutes',
  'docs/operate/access.md json: a setting',
  'docs/operate/keys.md json: needs a signer',
  'docs/operate/keys.md json: needs the private key of an IdP',
  'docs/operate/keys.md sh: takes a key out of service',
  'docs/operate/gate.md sh: a gateway',
  'docs/operate/run.md sh: a cluster',
  'docs/operate/run.md sh: a container',
  'docs/sre/find-a-logout.md json: needs the log of a running service',
  'docs/sre/find-a-logout.md sh: needs the log of a running service',
  'docs/sre/quarantine.md sh: the demo quarantines nothing',
  ...Array<string>(3).fill('docs/sre/runbook/audit-failed.md sh: needs an audit'),
  ...Array<string>(2).fill('docs/sre/runbook/audit-stale.md sh: needs an audit'),
  'docs/rp/probe.md sh: names hosts that do not exist',
  ...Array<string>(2).fill('docs/rp/probe.md sh: ends a real session'),
  'docs/rp/express-openid-connect.md sh: needs the RP',
  'docs/rp/mod-auth-openidc.md sh: needs the RP',
  'docs/rp/quarkus.md sh: needs the RP',
  'docs/rp/spring.md sh: needs the RP',
]

const PAGES = readPages()
const BLOCKS = PAGES.flatMap(({ blocks }) => blocks).filter(({ language }) =>
  CHECKED_LANGUAGES.includes(language),
)
const placeOf = ({ page, line, language }: Block) => `${page}:${line} (${language})`

test('every page of docs/ is in its index', () => {
  expect(unlistedPages()).toEqual([])
})

test('every link leads to a file or a heading', () => {
  expect(PAGES.flatMap(brokenLinks)).toEqual([])
})

test('the README is short', () => {
  expect(PAGES[0]?.text.split('\n').length).toBeLessThanOrEqual(200)
})

test('every page opens with the readers that it is for', () => {
  const openings = PAGES.slice(1).map(({ path, text }) => [path, text.split('\n\n')[1] ?? ''] as const)
  expect(openings.filter(([, opening]) => !opening.startsWith('For ')).map(([path]) => path)).toEqual([])
})

test('a difference between a document and its run is found', () => {
  const id = '01a22cab-2810-7956-b65f-e34be6b5ed9a'
  expect(differenceOfText('event 019aa5b8-…\n…\nMail ok 12 ms', `event ${id}\nat\nMail   ok 7 ms`)).toBeNull()
  expect(differenceOfText('Mail ok\nWiki ok', 'Mail ok\nCRM ok\nWiki ok')).not.toBeNull()
  expect(differenceOfText('Mail ok', 'Mail ok\nWiki ok')).not.toBeNull()
  expect(differenceOfJson({ id: '019aa5b8-…', ms: [{ p50_ms: 1 }] }, { id, ms: [{ p50_ms: 7 }] })).toBeNull()
  expect(differenceOfJson({ total: 3 }, { total: 4 })).not.toBeNull()
  expect(differenceOfJson([{ id: 'a' }], [{ id: 'a' }, { id: 'b' }])).not.toBeNull()
  expect(differenceOfJson([{ id: 'a' }, '…'], [{ id: 'a' }, { id: 'b' }])).toBeNull()
  expect(differenceOfJson({ level: null }, {})).not.toBeNull()
})

test('the blocks that are not run are known', () => {
  const notRun = BLOCKS.flatMap(({ page, language, notRun }) =>
    notRun === null ? [] : [`${page} ${language}: ${notRun}`],
  )
  expect(notRun.toSorted()).toEqual(NOT_RUN.toSorted())
})

describe('the blocks of', () => {
  const processes = useProcesses('file')
  let world: World
  let session: Pick<Scene, 'url' | 'key' | 'demo'>

  beforeAll(async () => {
    const demo = spawnStandalone(processes, {
      dataFolder: await processes.dataFolder(),
      args: ['--demo'],
      env: { LOG_LEVEL: 'error' },
    })
    const [, url = ''] = await demo.says(/Curfew is up at (\S+)/, 60_000)
    const [, key = ''] = await demo.says(/^ *(cfw_\S+)$/m)
    await demo.says(/Ctrl-C stops everything/, 60_000)
    session = { url, key, demo: () => demo.stdout }
    world = await openWorld({ curfewUrl: url, key })
  }, 120_000)
  afterAll(async () => {
    await world?.close()
    await processes.end()
  })

  test.each(
    PAGES.filter(({ path }) => !FAULT_PAGES.includes(path)).map((page) => [page.path, page] as const),
  )(
    '%s',
    async (path, page) => {
      const shell = openShell({ env: exportsOf(PAGES, world), realNpx: path === 'README.md' })
      try {
        await resetRegistrations(createClient(session))
        await followPage(page, { shell, world, ...session })
      } finally {
        shell.close()
      }
    },
    PAGE_MS,
  )
})

/** Each page begins with what the demo registers. */
async function resetRegistrations(client: Client): Promise<void> {
  await client.putIssuer('main', { iss: 'https://idp.example' })
  const { items } = await client.listRelyingParties('main', { limit: 500 })
  for (const { client_id } of items) {
    if (!DEMO_CLIENTS.includes(client_id)) await client.deleteRelyingParty('main', client_id)
  }
}

/** The variables that the README has its reader export. */
function exportsOf(pages: readonly Page[], world: World): Readonly<Record<string, string>> {
  const [readme] = pages
  const lines = readme?.text.match(/^export CURFEW_.*$/gm) ?? []
  const words = lines.flatMap((line) =>
    world
      .here(line)
      .replace(/^export /, '')
      .split(' '),
  )
  return Object.fromEntries(words.map((word) => word.split('=', 2) as [string, string]))
}

interface Scene {
  readonly shell: Shell
  readonly world: World
  readonly url: string
  readonly key: string
  /** The output of the demo so far. */
  demo(): string
}

async function followPage({ blocks }: Page, scene: Scene): Promise<void> {
  const { world, shell } = scene
  const from = world.received.length
  let output: string | null = null
  for (const block of blocks) {
    if (block.notRun !== null) continue
    if (block.language === 'sh') {
      const ran = await shell.run(world.here(block.text), Number(block.attributes.exit ?? 0))
      const said = world.there(`${ran.stdout}\n${ran.stderr}`)
      if (ran.fault !== null) throw new Error(`${placeOf(block)} ${ran.fault}:\n${block.text}\n${said}`)
      output = world.there(ran.stdout)
    } else {
      const difference = await differenceOf(block, output, from, scene)
      if (difference !== null) throw new Error(`${placeOf(block)}: ${difference}\n${output}`)
    }
  }
}

async function differenceOf(
  block: Block,
  output: string | null,
  from: number,
  scene: Scene,
): Promise<string | null> {
  const { language, text, attributes } = block
  switch (language) {
    case 'http':
      return differenceOfRequest(text, from, scene)
    case 'text':
      if (attributes.output === 'demo') return differenceOfText(text, scene.demo())
      return output === null ? 'no block was run before it' : differenceOfText(text, output)
    case 'json': {
      const method = ['post', 'put', 'patch', 'get'].find((name) => attributes[name] !== undefined)
      if (method !== undefined) return differenceOfCall(method, attributes[method] ?? '', text, scene)
      return output === null
        ? 'no block was run before it'
        : differenceOfJson(JSON.parse(text), parsed(output))
    }
    default:
      return null
  }
}

/** The output of a block as JSON: all of it, or its last line. */
function parsed(output: string): unknown {
  const whole = output.trim()
  try {
    return JSON.parse(whole)
  } catch {
    return JSON.parse(whole.split('\n').at(-1) ?? '')
  }
}

async function differenceOfCall(
  method: string,
  path: string,
  text: string,
  { world, url, key }: Scene,
): Promise<string | null> {
  const body = method === 'get' ? null : world.here(text)
  const response = await fetch(url + path, {
    method: method.toUpperCase(),
    headers: { authorization: `Bearer ${key}`, ...(body !== null && { 'content-type': 'application/json' }) },
    body,
  })
  const answer = await response.text()
  if (!response.ok) return `${method} ${path} was answered ${response.status}: ${answer}`
  return method === 'get' ? differenceOfJson(JSON.parse(text), JSON.parse(world.there(answer))) : null
}

/** Whether a host of the documents has received the request, with these headers and this body. */
function differenceOfRequest(text: string, from: number, { world }: Scene): string | null {
  const [head = '', body = ''] = text.split(/\n\n(.*)/s)
  const [request = '', ...headers] = head.split('\n')
  const [method, path] = request.split(' ')
  const found = world.received.slice(from).find((each) => each.method === method && each.path === path)
  if (found === undefined) return `nothing was received as ${request}`
  const wrong = headers
    .map((line) => line.split(/: (.*)/s))
    .map(([name = '', value = '']) =>
      name.toLowerCase() === 'host'
        ? differenceOfJson(value, found.host, name)
        : differenceOfJson(value, found.headers[name.toLowerCase()], name),
    )
  const isJson = found.headers['content-type'] === 'application/json'
  const ofBody = isJson
    ? differenceOfJson(JSON.parse(body), JSON.parse(found.body), 'body')
    : differenceOfText(body, found.body)
  return [...wrong, ofBody].find((difference) => difference !== null) ?? null
}
