import type { Page } from '@curfew/client'
import type { ResourceServer } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { command, type Given, group, text } from '../terminal/arguments.ts'
import { plain, table } from '../terminal/table.ts'
import { ISSUER_OPTION, issuerOf } from './issuer.ts'

const COMMON = { ...ISSUER_OPTION, ...CONNECTION_OPTIONS } as const
const PUT = { 'resource-name': text('NAME', 'its name for people'), ...COMMON } as const
const WORDS = { '<NAME>': 'the name of the resource server' }

export const resourceServer = group('APIs that read the cutoff feed', {
  list: command({ about: 'list resource servers', options: COMMON }, list),
  show: command(
    { about: 'show a resource server, its readers and what they lack', words: WORDS, options: COMMON },
    show,
  ),
  put: command(
    {
      about: 'register a resource server, or replace its registration',
      words: WORDS,
      options: PUT,
      notes:
        'Give it a key of its own: curfew api-keys create --name NAME --scope revocations:read --issuer ISSUER --client NAME.',
    },
    put,
  ),
  delete: command(
    { about: 'remove a resource server; its history stays', words: WORDS, options: COMMON },
    remove,
  ),
})

async function list({ values }: Given<typeof COMMON>): Promise<number> {
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const items: ResourceServer[] = []
  let cursor: string | null = null
  do {
    const page: Page<ResourceServer> = await answered(
      client.listResourceServers(issuer, { limit: 500, ...(cursor !== null && { cursor }) }),
    )
    items.push(...page.items)
    cursor = page.next_cursor
  } while (cursor !== null)
  print(values.json, { items }, () => {
    if (items.length === 0) return `No resource servers at ${issuer}.\n`
    const rows = items.map(({ client_id, resource_name, readers, offered }) => [
      client_id,
      plain(resource_name ?? ''),
      String(readers.length),
      String(offered.count),
    ])
    return table([['NAME', 'FOR PEOPLE', 'READERS', 'NOT APPLIED'], ...rows])
  })
  return 0
}

async function show({ values, positionals }: Given<typeof COMMON>): Promise<number> {
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const server = await answered(client.getResourceServer(issuer, positionals[0] ?? ''))
  print(values.json, server, () => inWords(server))
  return 0
}

async function put({ values, positionals }: Given<typeof PUT>): Promise<number> {
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const name = values['resource-name']
  const server = await answered(
    client.putResourceServer(issuer, positionals[0] ?? '', {
      ...(name !== undefined && { resource_name: name }),
    }),
  )
  print(values.json, server, () => inWords(server))
  return 0
}

async function remove({ values, positionals }: Given<typeof COMMON>): Promise<number> {
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const removed = await answered(client.deleteResourceServer(issuer, positionals[0] ?? ''))
  print(values.json, removed, () => `Removed ${removed.client_id} from ${issuer}.\n`)
  return 0
}

function inWords({ client_id, issuer, resource_name, readers, offered, links }: ResourceServer): string {
  const since = offered.since === null ? '' : `, the oldest planned at ${offered.since}`
  const facts: readonly (readonly [string, string])[] = [
    ['name', client_id],
    ...(resource_name === null ? [] : [['for people', resource_name] as const]),
    ['issuer', issuer],
    ['feed', links.revocations],
    ['not applied', `${offered.count} logouts${since}`],
    ['readers', readers.length === 0 ? 'none within the last hour' : ''],
  ]
  const words = facts.map(([name, value]) => `${name.padEnd(12)}${plain(value)}`.trimEnd())
  const rows = readers.map(({ reader, applied, read_at }) => [
    plain(reader === '' ? '(no name)' : reader),
    String(applied),
    read_at,
  ])
  const list = rows.length === 0 ? '' : table([['READER', 'APPLIED', 'LAST READ'], ...rows])
  return `${words.join('\n')}\n${list}`
}

function print(json: boolean | undefined, value: object, words: () => string): void {
  process.stdout.write(json === true ? `${JSON.stringify(value)}\n` : words())
}
