import { Writable } from 'node:stream'
import type { Page } from '@curfew/client'
import { clientIdIn, type RelyingParty, type RelyingPartyInput } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { readClientFile } from '../client-file/read.ts'
import { faultIn } from '../client-file/values.ts'
import { command, flag, type Given, group, text, UsageError } from '../terminal/arguments.ts'
import { readText } from '../terminal/files.ts'
import { LIMIT_OPTION, limitOf } from '../terminal/pages.ts'
import { ISSUER_OPTION, issuerOf } from './issuer.ts'
import { channelPatch, endpointPatch, partyPatch } from './rp-enable.ts'
import { importClients, importText } from './rp-import.ts'
import { PROBE_OPTIONS, probe } from './rp-probe.ts'
import { healthText, noticesText, partyTable, partyText } from './rp-text.ts'

const PAGE_MAX = 500
const COMMON = { ...ISSUER_OPTION, ...CONNECTION_OPTIONS } as const
const LIST = { ...LIMIT_OPTION, ...COMMON } as const
const PUT = { client: text('CLIENT_ID', 'if the file has no client_id'), ...COMMON } as const
const ENABLE = {
  channel: text('KIND', 'only one of its channels (default: all)'),
  endpoint: text('NAME', 'only one of its curfew.endpoints'),
  ...COMMON,
} as const
const IMPORT = {
  'dry-run': flag('only check'),
  'skip-invalid': flag('import the other clients if some have faults, list these, and exit with 1'),
  relay: flag(
    'then show the URL of the relay to set for each client at the IdP, for Keycloak and Hydra as calls',
  ),
  restore: flag('import nothing, and show how to set the URLs of the relying parties at the IdP again'),
  ...COMMON,
} as const
const ID = { '<ID>': 'the client_id of the relying party' }

export const rp = group('relying parties', {
  list: command({ about: 'list relying parties with their endpoints', options: LIST }, list),
  show: command({ about: 'show a relying party', words: ID, options: COMMON }, show),
  put: command(
    {
      about: 'register or replace a relying party',
      words: {
        '<FILE>': 'OIDC client metadata in JSON, or the export of its IdP; - for standard input',
      },
      options: PUT,
    },
    put,
  ),
  delete: command({ about: 'remove a relying party; its history stays', words: ID, options: COMMON }, remove),
  enable: command({ about: 'enable a relying party', words: ID, options: ENABLE }, (given) =>
    enable(given, true),
  ),
  disable: command({ about: 'disable a relying party', words: ID, options: ENABLE }, (given) =>
    enable(given, false),
  ),
  import: command(
    {
      about: 'register many relying parties, all or none, or all but the invalid ones',
      words: {
        '[FILE]': 'JSON or NDJSON of rp export, Keycloak, Ory, Auth0, Okta and others; - for standard input',
      },
      options: IMPORT,
      notes:
        '--relay and --restore without FILE are for all registered clients. If CURFEW_PUBLIC_URL is not set, the relay addresses begin with --url, so both the IdP and this command must reach Curfew there.',
      examples: ['curfew rp import realm.json --dry-run', 'curfew rp import --relay'],
    },
    importFile,
  ),
  export: command(
    {
      about: 'export all relying parties of an issuer as NDJSON, the format of import',
      options: COMMON,
    },
    exportAll,
  ),
  health: command(
    {
      about: 'show waiting deliveries, recent acknowledgements and their duration',
      words: ID,
      options: COMMON,
    },
    health,
  ),
  probe: command(
    {
      about: 'send valid and forged requests to the endpoint of a relying party, and report the faults',
      words: ID,
      options: PROBE_OPTIONS,
      notes: 'Exit status 0: every check of the level must has passed. 1: one has not.',
    },
    probe,
  ),
})

async function list({ values }: Given<typeof LIST>): Promise<number> {
  const limit = limitOf(values)
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

async function show({ values, positionals }: Given<typeof COMMON>): Promise<number> {
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const party = await answered(client.getRelyingParty(issuer, positionals[0] ?? ''))
  print(values.json, party, () => partyText(party))
  return 0
}

async function put({ values, positionals }: Given<typeof PUT>): Promise<number> {
  const body = readJson(await readText(positionals[0] ?? ''))
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
  print(values.json, party, () => `${partyText(party)}${noticesText(party)}${kept}`)
  return 0
}

async function remove({ values, positionals }: Given<typeof COMMON>): Promise<number> {
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

async function enable({ values, positionals }: Given<typeof ENABLE>, enabled: boolean): Promise<number> {
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

async function importFile({ values, positionals }: Given<typeof IMPORT>): Promise<number> {
  const [file] = positionals
  const direction = values.restore === true ? 'restore' : values.relay === true ? 'relay' : null
  if (values.relay === true && values.restore === true)
    throw new UsageError('Give --relay or --restore, not both.')
  const dryRun = values['dry-run'] === true
  if (file === undefined && direction === null)
    throw new UsageError('Give a file to import; or --relay or --restore alone, for the registered clients.')
  if (dryRun && (file === undefined || direction === 'restore'))
    throw new UsageError('--dry-run needs a file to import, and does not go with --restore.')
  const skipInvalid = values['skip-invalid'] === true
  if (skipInvalid && (file === undefined || direction === 'restore'))
    throw new UsageError('--skip-invalid needs a file to import, and does not go with --restore.')
  const input = file === undefined ? null : readClientFile(await readText(file), file)
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const json = values.json === true
  if (direction !== null) {
    const { repoint } = await import('../relay/repoint.ts')
    return repoint(client, input, { issuer, direction, dryRun, skipInvalid, json, url: values.url })
  }
  if (input === null) return 0
  const done = await importClients(client, input, { issuer, dryRun, skipInvalid, json })
  print(json, done, () => importText(done, issuer))
  return done.skipped.total > 0 ? 1 : 0
}

/** Prints lines of JSON, with or without --json. */
async function exportAll({ values }: Given<typeof COMMON>): Promise<number> {
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

async function health({ values, positionals }: Given<typeof COMMON>): Promise<number> {
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const found = await answered(client.getRelyingPartyHealth(issuer, positionals[0] ?? ''))
  print(values.json, found, () => healthText(found))
  return 0
}

function readJson(input: string): RelyingPartyInput & Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(input) as RelyingPartyInput & Readonly<Record<string, unknown>>
  } catch (error) {
    throw new UsageError(`The file is not JSON${faultIn(input)}.`, { cause: error })
  }
}

function print(json: boolean | undefined, value: unknown, inWords: () => string): void {
  process.stdout.write(json === true ? `${JSON.stringify(value)}\n` : inWords())
}
