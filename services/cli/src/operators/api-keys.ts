import type { ApiKey, ApiKeyInput } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { command, type Given, group, text, texts, UsageError } from '../terminal/arguments.ts'
import { table } from '../terminal/table.ts'

const CREATE = {
  name: text('NAME', 'the name of the key'),
  scope: texts('SCOPE', 'a scope of the key'),
  issuer: text('NAME', 'bind the key to this issuer'),
  client: texts('CLIENT_ID', 'bind the key to this relying party of the issuer'),
  rate: text('REQUESTS', 'limit the key to this number of requests a second'),
  expires: text('TIME', 'the end of the key'),
  ...CONNECTION_OPTIONS,
} as const
const PAGE_MAX = 500

export const apiKeys = group('keys of this API', {
  list: command({ about: 'list API keys', options: CONNECTION_OPTIONS }, list),
  create: command(
    {
      about: 'create an API key, and show it once',
      options: CREATE,
      examples: ['curfew api-keys create --name idp --scope events:write --issuer main'],
    },
    create,
  ),
  revoke: command(
    {
      about: 'revoke an API key',
      words: { '<ID>': 'the id of the key, as in api-keys list' },
      options: CONNECTION_OPTIONS,
    },
    revoke,
  ),
})

async function list({ values }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  const client = connect(values)
  const items: ApiKey[] = []
  let cursor: string | null = null
  do {
    const page: Awaited<ReturnType<typeof client.listApiKeys>> = await answered(
      client.listApiKeys({ limit: PAGE_MAX, ...(cursor !== null && { cursor }) }),
    )
    items.push(...page.items)
    cursor = page.next_cursor
  } while (cursor !== null)
  if (values.json === true) process.stdout.write(`${JSON.stringify({ items })}\n`)
  else if (items.length === 0) process.stdout.write('No API keys except those from the environment.\n')
  else process.stdout.write(table([HEAD, ...items.map(rowOf)]))
  return 0
}

const HEAD = ['ID', 'NAME', 'KEY', 'SCOPES', 'BOUND TO', 'LAST USED (UTC)', 'STATE']

function rowOf(key: ApiKey): readonly string[] {
  return [
    key.id,
    key.name,
    `${key.hint}…`,
    key.scopes.join(' '),
    boundTo(key),
    minute(key.last_used_at),
    stateOf(key),
  ]
}

function boundTo({ issuer, clients }: ApiKey): string {
  if (issuer === null) return ''
  return clients === null ? issuer : clients.map((client) => `${issuer}/${client}`).join(' ')
}

function stateOf({ revoked_at, revoked_by, expires_at }: ApiKey): string {
  if (revoked_at !== null) return `revoked by ${revoked_by}`
  if (expires_at === null) return 'valid'
  return Date.parse(expires_at) <= Date.now() ? 'expired' : `valid until ${minute(expires_at)}`
}

function minute(time: string | null): string {
  return time === null ? 'never' : time.slice(0, 16).replace('T', ' ')
}

async function create({ values }: Given<typeof CREATE>): Promise<number> {
  const { name, scope, issuer, client, rate, expires, json } = values
  if (name === undefined || scope === undefined)
    throw new UsageError('Give --name, and at least one --scope.')
  if (rate !== undefined && !/^\d+$/.test(rate)) throw new UsageError('--rate must be a whole number.')
  const created = await answered(
    connect(values).createApiKey({
      name,
      // The service refuses unknown scopes, and lists the valid ones.
      scopes: scope as ApiKeyInput['scopes'],
      ...(issuer !== undefined && { issuer }),
      ...(client !== undefined && { clients: client }),
      ...(rate !== undefined && { requests_per_second: Number(rate) }),
      ...(expires !== undefined && { expires_at: expires }),
    }),
  )
  process.stdout.write(
    json === true
      ? `${JSON.stringify(created)}\n`
      : `${created.key}\n\nStore this key: Curfew does not show it again. Its id is ${created.id}.\n`,
  )
  return 0
}

async function revoke({ values, positionals }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  const revoked = await answered(connect(values).revokeApiKey(positionals[0] ?? ''))
  process.stdout.write(
    values.json === true ? `${JSON.stringify(revoked)}\n` : `${revoked.name} is revoked.\n`,
  )
  return 0
}
