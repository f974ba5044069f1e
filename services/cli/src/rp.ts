import { readFile } from 'node:fs/promises'
import { Writable } from 'node:stream'
import { text as readAll } from 'node:stream/consumers'
import type { Page } from '@curfew/client'
import { clientIdIn, type RelyingParty, type RelyingPartyInput } from '@curfew/contract'
import { type Command, group, parse, parseOptional, UsageError } from './arguments.ts'
import { answered, CONNECTION_OPTIONS, connect } from './connect.ts'
import { issuerOf } from './issuer.ts'
import { channelPatch, endpointPatch, partyPatch } from './rp-enable.ts'
import { importClients, importText } from './rp-import.ts'
import { probe } from './rp-probe.ts'
import { healthText, partyTable, partyText } from './rp-text.ts'

const PAGE_MAX = 500
const LIMIT_DEFAULT = 50
const OPTIONS = {
  ...CONNECTION_OPTIONS,
  issuer: { type: 'string' },
  json: { type: 'boolean' },
} as const

/** `curfew rp …`. Each subcommand returns the exit status. */
export const rp: Command = group('rp', {
  list,
  show,
  put,
  delete: remove,
  enable: (args) => enable(args, true),
  disable: (args) => enable(args, false),
  import: importFile,
  export: exportAll,
  health,
  probe,
})

async function list(args: readonly string[]): Promise<number> {
  const { values } = parse(args, { ...OPTIONS, limit: { type: 'string' } })
  const limit = Number(values.limit ?? LIMIT_DEFAULT)
  if (!Number.isInteger(limit) || limit < 1) throw new UsageError('--limit must be a whole number from 1.')
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const items: RelyingParty[] = []
  let cursor: string | null = null
  do {
    const page: Page<RelyingParty> = await answered(
      client.listRelyingParties(issuer, {
        limit: Math.min(PAGE_MAX, limit - items.length),
        ...(cursor !== null && { cursor }),
      }),
    )
    items.push(...page.items)
    cursor = page.next_cursor
  } while (cursor !== null && items.length < limit)
  print(values.json, { items, next_cursor: cursor }, () => {
    if (items.length === 0) return `No relying parties at ${issuer}.\n`
    return `${partyTable(items)}${cursor === null ? '' : 'There are more. Raise --limit, or use rp export.\n'}`
  })
  return 0
}

async function show(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, OPTIONS, 1)
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const party = await answered(client.getRelyingParty(issuer, positionals[0] ?? ''))
  print(values.json, party, () => partyText(party))
  return 0
}

async function put(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, { ...OPTIONS, client: { type: 'string' } }, 1)
  const body = readJson(await readInput(positionals[0] ?? ''))
  const clientId = values.client ?? clientIdIn(body)
  if (clientId === null) throw new UsageError('The file has no client_id. Give --client.')
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const party = await answered(client.putRelyingParty(issuer, clientId, body))
  const { confirmation_secret: secret } = party.curfew
  const kept =
    secret === undefined
      ? ''
      : `\nStore the secret of its confirmations, which Curfew does not show again:\n${secret}\n`
  print(values.json, party, () => `${partyText(party)}${kept}`)
  return 0
}

async function remove(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, OPTIONS, 1)
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const removed = await answered(client.deleteRelyingParty(issuer, positionals[0] ?? ''))
  print(values.json, removed, () => {
    const { waiting } = removed
    const lost = waiting === 0 ? '' : ` ${waiting} waiting deliveries become dead letters (client_removed).`
    return `Removed ${removed.client_id} from ${issuer}.${lost}\n`
  })
  return 0
}

async function enable(args: readonly string[], enabled: boolean): Promise<number> {
  const { values, positionals } = parse(
    args,
    { ...OPTIONS, endpoint: { type: 'string' }, channel: { type: 'string' } },
    1,
  )
  const { endpoint, channel } = values
  if (endpoint !== undefined && channel !== undefined)
    throw new UsageError('Give --endpoint or --channel, not both.')
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const party = await answered(
    client.changeRelyingParty(issuer, positionals[0] ?? '', (before) => {
      if (endpoint !== undefined) return endpointPatch(before, endpoint, enabled)
      return channel === undefined ? partyPatch(before, enabled) : channelPatch(before, channel, enabled)
    }),
  )
  print(values.json, party, () => partyText(party))
  return 0
}

async function importFile(args: readonly string[]): Promise<number> {
  const switches = {
    'dry-run': { type: 'boolean' },
    relay: { type: 'boolean' },
    restore: { type: 'boolean' },
  } as const
  const { values, positionals } = parseOptional(args, { ...OPTIONS, ...switches })
  const [file] = positionals
  const direction = values.restore === true ? 'restore' : values.relay === true ? 'relay' : null
  if (values.relay === true && values.restore === true)
    throw new UsageError('Give --relay or --restore, not both.')
  const dryRun = values['dry-run'] === true
  if (file === undefined && direction === null)
    throw new UsageError('Give a file to import; or --relay or --restore alone, for the registered clients.')
  if (dryRun && (file === undefined || direction === 'restore'))
    throw new UsageError('--dry-run needs a file to import, and does not go with --restore.')
  const input = file === undefined ? null : await readInput(file)
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const json = values.json === true
  if (direction !== null) {
    const { repoint } = await import('./relay/repoint.ts')
    return repoint(client, input, { issuer, direction, dryRun, json, url: values.url })
  }
  const done = await importClients(client, input ?? '', { issuer, dryRun, json })
  print(json, done, () => importText(done, issuer))
  return 0
}

async function exportAll(args: readonly string[]): Promise<number> {
  // The output is lines of JSON, with or without --json.
  const { values } = parse(args, OPTIONS)
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const lines = await answered(client.exportRelyingParties(issuer))
  // Standard output stays open for later output.
  await answered(
    lines.pipeTo(
      Writable.toWeb(
        new Writable({ write: (chunk, _encoding, done) => void process.stdout.write(chunk, done) }),
      ),
    ),
  )
  return 0
}

async function health(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, OPTIONS, 1)
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const found = await answered(client.getRelyingPartyHealth(issuer, positionals[0] ?? ''))
  print(values.json, found, () => healthText(found))
  return 0
}

/** The text of a file, or of standard input for `-`. */
async function readInput(file: string): Promise<string> {
  if (file === '-') return readAll(process.stdin)
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new UsageError(`${file} cannot be read: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    })
  }
}

function readJson(input: string): RelyingPartyInput & Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(input) as RelyingPartyInput & Readonly<Record<string, unknown>>
  } catch (error) {
    throw new UsageError(`The file is not JSON: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    })
  }
}

function print(json: boolean | undefined, value: unknown, inWords: () => string): void {
  process.stdout.write(json === true ? `${JSON.stringify(value)}\n` : inWords())
}
