import type { Client } from '@curfew/client'
import type { Issuer, IssuerInput } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { command, flag, type Given, group, text, UsageError } from '../terminal/arguments.ts'
import { upTo } from '../terminal/pages.ts'
import { plain, table } from '../terminal/table.ts'

/** Each setting that may be on or off has two options, because an absent option leaves the setting unchanged. */
const PUT = {
  iss: text('ISS', 'the issuer, as in ID tokens; needed for a new issuer'),
  'session-index': text('off|partial|complete', 'which sessions the IdP posts'),
  'subject-type': text('public|pairwise', 'whether its clients know a user by one sub, or each by its own'),
  'jwks-uri': text('URL', 'the keys that the relay verifies with'),
  'no-jwks-uri': flag('the relay verifies with the keys that discovery names'),
  'lenient-logout-tokens': flag('the relay accepts logout tokens without exp and typ'),
  'no-lenient-logout-tokens': flag('the relay refuses logout tokens without exp or typ'),
  widen: flag('a relayed logout notifies the other relying parties as well'),
  'no-widen': flag('a relayed logout notifies only the relying party that it names'),
  'max-token-ttl': text('SECONDS', 'the longest life of an access token'),
  'widen-to-subject': flag('the logout of a session also cuts off the access tokens of its user'),
  'no-widen-to-subject': flag('the logout of a session cuts off only access tokens with its sid'),
  strategy: text(
    'revoke_then_notify',
    'revoke at once by every channel that can, whatever registrations say',
  ),
  'no-strategy': flag('use each channel as its registration says'),
  ...CONNECTION_OPTIONS,
} as const
const WORDS = { '<NAME>': 'the name of the issuer' }

export const issuer = group('identity providers', {
  list: command({ about: 'list issuers', options: CONNECTION_OPTIONS }, list),
  show: command(
    { about: 'show an issuer, and the address of its relay', words: WORDS, options: CONNECTION_OPTIONS },
    show,
  ),
  put: command(
    {
      about: 'register an issuer, or change the given settings; the others stay',
      words: WORDS,
      options: PUT,
      examples: ['curfew issuer put main --iss https://idp.example.com --session-index partial'],
    },
    put,
  ),
})

async function list({ values }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  const items = await allIssuers(connect(values))
  if (values.json === true) process.stdout.write(`${JSON.stringify({ items })}\n`)
  else if (items.length === 0) process.stdout.write('This key may see no issuer.\n')
  else process.stdout.write(table([['NAME', 'ISS'], ...items.map(({ name, iss }) => [name, iss])]))
  return 0
}

async function show({ values, positionals }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  return print(values.json, await answered(connect(values).getIssuer(positionals[0] ?? '')))
}

async function put({ values, positionals }: Given<typeof PUT>): Promise<number> {
  const [name = ''] = positionals
  const changes = {
    ...(values['session-index'] !== undefined && { session_index: values['session-index'] }),
    ...(values['subject-type'] !== undefined && { subject_type: values['subject-type'] }),
    ...(values['jwks-uri'] !== undefined && { jwks_uri: values['jwks-uri'] }),
    ...(values['no-jwks-uri'] === true && { jwks_uri: null }),
    ...chosen('lenient_logout_tokens', values['lenient-logout-tokens'], values['no-lenient-logout-tokens']),
    ...chosen('widen', values.widen, values['no-widen']),
    ...(values['max-token-ttl'] !== undefined && { max_token_ttl: Number(values['max-token-ttl']) }),
    ...chosen('widen_to_subject', values['widen-to-subject'], values['no-widen-to-subject']),
    ...(values.strategy !== undefined && { strategy: values.strategy }),
    ...(values['no-strategy'] === true && { strategy: null }),
  } as Partial<IssuerInput>
  if (values.strategy !== undefined && values['no-strategy'] === true)
    throw new UsageError('Give --strategy or --no-strategy, not both.')
  if (values['jwks-uri'] !== undefined && values['no-jwks-uri'] === true)
    throw new UsageError('Give --jwks-uri or --no-jwks-uri, not both.')
  const put = connect(values).changeIssuer(name, (before) => {
    const iss = values.iss ?? before?.iss
    if (iss === undefined) throw new UsageError(`There is no issuer ${name}. Give --iss to register it.`)
    return { ...(before !== null && inputOf(before)), ...changes, iss }
  })
  return print(values.json, await answered(put))
}

/** The setting that a pair of options chooses; none if neither is given. @throws {UsageError} if both are given. */
function chosen(name: string, on: boolean | undefined, off: boolean | undefined): Record<string, boolean> {
  const option = name.replaceAll('_', '-')
  if (on === true && off === true) throw new UsageError(`Give --${option} or --no-${option}, not both.`)
  return on === true ? { [name]: true } : off === true ? { [name]: false } : {}
}

/** The registration of an issuer as it can be put. Absent quotas stay unchanged. */
function inputOf({ name: _, quotas, created_at, updated_at, links, ...settings }: Issuer): IssuerInput {
  return settings
}

function print(json: boolean | undefined, issuer: Issuer): number {
  process.stdout.write(json === true ? `${JSON.stringify(issuer)}\n` : inWords(issuer))
  return 0
}

function inWords({ name, iss, sla, defaults, links, ...issuer }: Issuer): string {
  const facts: readonly (readonly [string, string])[] = [
    ['issuer', `${name} (${iss})`],
    ['sla', `${sla.objective * 100} % within ${sla.within_ms} ms, in ${sla.window_days} days`],
    ['session index', issuer.session_index],
    ['subject type', issuer.subject_type],
    ['jwks_uri', issuer.jwks_uri ?? 'by discovery'],
    ['lenient', issuer.lenient_logout_tokens ? 'yes' : 'no'],
    ['widen', issuer.widen ? 'yes' : 'no'],
    ['max_token_ttl', `${issuer.max_token_ttl} s`],
    ['widen_to_subject', issuer.widen_to_subject ? 'yes' : 'no'],
    ['strategy', issuer.strategy ?? 'none'],
    ['relay', links.relay ?? 'unknown: CURFEW_PUBLIC_URL is not set'],
    ...Object.entries(defaults).map(([member, value]) => [member, JSON.stringify(value)] as const),
  ]
  return facts.map(([fact, value]) => `${fact.padEnd(18)}${plain(value)}\n`).join('')
}

/** Every issuer that the key may see. */
export async function allIssuers(client: Client): Promise<readonly Issuer[]> {
  return (await upTo<Issuer>(Number.POSITIVE_INFINITY, (part) => answered(client.listIssuers(part)))).items
}

/** The name and the `iss` of an issuer. */
type IssuerNames = Pick<Issuer, 'name' | 'iss'>

/** The issuer that the key is bound to, otherwise every issuer; null if the key may not list issuers. */
export async function reachableIssuers(client: Client): Promise<readonly IssuerNames[] | null> {
  const { issuer, iss, scopes } = await answered(client.getCredential())
  if (issuer !== null && iss !== null) return [{ name: issuer, iss }]
  return scopes.some((scope) => LISTS_ISSUERS.includes(scope)) ? allIssuers(client) : null
}

/** The scopes with which a key may list issuers. */
const LISTS_ISSUERS = ['clients:read', 'admin']

/** The option of commands about one issuer. */
export const ISSUER_OPTION = { issuer: text('NAME', 'the issuer, if there are several') } as const

/** The name of the given issuer, or of the only one. @throws {UsageError} if there are several or none. */
export async function issuerOf(client: Client, named: string | undefined): Promise<string> {
  return named ?? (await onlyIssuer(client, '--issuer NAME')).name
}

/** The `iss` of the given issuer, or of the only one. @throws {UsageError} if there are several or none. */
export async function issOf(client: Client, given: string | undefined): Promise<string> {
  return given ?? (await onlyIssuer(client, '--iss ISS')).iss
}

/** The issuer that the key is bound to, or the only registered one. @throws {UsageError} if there are several or none. */
async function onlyIssuer(client: Client, option: string): Promise<IssuerNames> {
  const issuers = await reachableIssuers(client)
  if (issuers === null)
    throw new UsageError(`This key is bound to no issuer, and may not list issuers. Give ${option}.`)
  const [only, ...others] = issuers
  if (only === undefined) throw new UsageError('No issuer is registered. Register one: curfew issuer put.')
  if (others.length > 0) throw severalIssuers(issuers, option)
  return only
}

/** Number of issuers that an error names. */
const NAMES_SHOWN = 10

/** The error of a command that is about one issuer. */
export function severalIssuers(issuers: readonly IssuerNames[], option = '--issuer NAME'): UsageError {
  const member = option.startsWith('--issuer') ? 'name' : 'iss'
  const names = issuers.slice(0, NAMES_SHOWN).map((issuer) => issuer[member])
  return new UsageError(
    `There are several issuers. Give ${option}: ${[...names, ...(issuers.length > NAMES_SHOWN ? ['…'] : [])].join(', ')}`,
  )
}
