import type { SigningKeyInput, SigningKeys } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect, JSON_OPTION } from '../calls/connect.ts'
import { ISSUER_OPTION, issuerOf } from '../registry/issuer.ts'
import { command, flag, type Given, group, text, UsageError } from '../terminal/arguments.ts'
import { plain, table } from '../terminal/table.ts'
import { readKeyFile } from './key-file.ts'

const LEAD = { 'lead-hours': text('H', 'publish the key for H hours before it signs') } as const
const COMMON = { ...ISSUER_OPTION, ...CONNECTION_OPTIONS } as const
const LIST = { all: flag('also retired keys'), ...COMMON } as const
const GENERATE = { alg: text('ALG', 'the algorithm, such as ES256'), ...LEAD, ...COMMON } as const
const IMPORT = {
  kid: text('KID', 'the key of a JWK Set to import'),
  alg: text('ALG', 'the algorithm, if the key does not say it'),
  'sign-now': flag('sign with the key at once'),
  ...LEAD,
  ...COMMON,
} as const
const ROTATE = {
  alg: text('ALG', 'only keys of this algorithm'),
  immediately: flag('sign at once; relying parties refuse tokens until they have fetched the key'),
  'every-days': text('N', 'set a schedule of N days and rotate nothing; never: end the schedule'),
  ...LEAD,
  ...COMMON,
} as const
const RETIRE = { compromised: flag('remove the key from the key set at once'), ...COMMON } as const

export const keys = group('signing keys', {
  list: command({ about: 'list signing keys and when they sign', options: LIST }, list),
  generate: command(
    { about: 'generate a key', options: GENERATE, examples: ['curfew keys generate --alg ES256'] },
    generate,
  ),
  import: command(
    {
      about: 'import the private key of an IdP',
      words: { '<FILE>': 'a private JWK, a JWK Set or PEM; -: standard input' },
      options: IMPORT,
    },
    importKey,
  ),
  rotate: command(
    { about: 'replace the generated keys; a new key is published before it signs', options: ROTATE },
    rotate,
  ),
  retire: command(
    { about: 'take a key out of service', words: { '<KID>': 'the id of the key' }, options: RETIRE },
    retire,
  ),
  rewrap: command(
    {
      about: 'seal the secrets in DATABASE_URL with CURFEW_MASTER_KEY in place of CURFEW_MASTER_KEY_OLD',
      options: JSON_OPTION,
    },
    // It changes the ledger directly and needs the code of the services, so it is loaded only on use.
    async ({ values }) => (await import('./keys-rewrap.ts')).runRewrap({ json: values.json === true }),
  ),
})

async function list({ values }: Given<typeof LIST>): Promise<number> {
  const client = connect(values)
  const found = await answered(client.listKeys(await issuerOf(client, values.issuer)))
  return show(found, { json: values.json, all: values.all })
}

async function generate({ values }: Given<typeof GENERATE>): Promise<number> {
  if (values.alg === undefined) throw new UsageError('The algorithm is missing. Give --alg, such as ES256.')
  return add(values, { alg: values.alg as NonNullable<SigningKeyInput['alg']> })
}

async function importKey({ values, positionals }: Given<typeof IMPORT>): Promise<number> {
  const { jwk, alg, notes } = await readKeyFile(positionals[0] ?? '', values)
  for (const note of notes) process.stderr.write(`${note}\n`)
  return add(values, {
    jwk: { ...jwk },
    ...(alg !== undefined && { alg: alg as NonNullable<SigningKeyInput['alg']> }),
    ...(values['sign-now'] === true && { sign_from: 'now' as const }),
  })
}

async function rotate({ values }: Given<typeof ROTATE>): Promise<number> {
  const client = connect(values)
  const every = values['every-days']
  if (every !== undefined && every !== 'never' && !/^[1-9]\d*$/.test(every))
    throw new UsageError('--every-days must be a whole number from 1, or never.')
  const issuer = await issuerOf(client, values.issuer)
  const rotated = await answered(
    client.rotateKeys(issuer, {
      ...leadOf(values),
      ...(values.alg !== undefined && { alg: values.alg as NonNullable<SigningKeyInput['alg']> }),
      ...(values.immediately === true && { immediately: true }),
      ...(every !== undefined && { every_days: every === 'never' ? null : Number(every) }),
    }),
  )
  // Standard error keeps the warning out of the JSON.
  if (values.immediately === true) process.stderr.write(`${plain(unpublished(issuer))}\n`)
  return show(rotated, values)
}

/** The warning about a key that signs before it was published. */
function unpublished(issuer: string): string {
  return `The new key signs at once. Relying parties refuse its tokens until the identity provider publishes it and they fetch the keys again. Publish it at the IdP now; curfew doctor --issuer ${issuer} shows whether the IdP does.`
}

async function retire({ values, positionals }: Given<typeof RETIRE>): Promise<number> {
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const compromised = values.compromised === true
  await answered(client.retireKey(issuer, positionals[0] ?? '', { compromised }))
  return show(await answered(client.listKeys(issuer)), values)
}

async function add(
  values: Parameters<typeof connect>[0] & {
    readonly issuer?: string
    readonly json?: boolean
    readonly 'lead-hours'?: string
  },
  key: SigningKeyInput,
): Promise<number> {
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const { kid, kid_reason } = await answered(client.addKey(issuer, { ...key, ...leadOf(values) }))
  // Standard error keeps the note out of the JSON.
  if (kid_reason != null) process.stderr.write(`${plain(`kid ${kid}: ${kid_reason}`)}\n`)
  return show(await answered(client.listKeys(issuer)), values)
}

function leadOf({ 'lead-hours': hours }: { readonly 'lead-hours'?: string }): { lead_s?: number } {
  if (hours === undefined) return {}
  if (!(Number(hours) > 0)) throw new UsageError('--lead-hours must be a number above 0.')
  return { lead_s: Math.round(Number(hours) * 3_600) }
}

function show(
  { items, every_days, next_cursor }: SigningKeys,
  { json, all }: { json?: boolean | undefined; all?: boolean | undefined },
): number {
  if (json === true) {
    process.stdout.write(`${JSON.stringify({ items, every_days, next_cursor })}\n`)
    return 0
  }
  const shown = items.filter(({ state }) => all === true || state !== 'retired')
  const rows = shown.map((key) => [
    key.kid,
    key.alg,
    key.state,
    key.source,
    minute(key.signs_from),
    minute(key.signs_until),
    minute(key.published_until),
  ])
  const head = ['KID', 'ALG', 'STATE', 'SOURCE', 'SIGNS FROM (UTC)', 'UNTIL', 'PUBLISHED UNTIL']
  process.stdout.write(
    rows.length === 0
      ? 'No keys yet. Curfew generates the first one when a relying party needs it.\n'
      : table([head, ...rows]),
  )
  if (every_days !== null) process.stdout.write(`Generated keys are rotated every ${every_days} days.\n`)
  return 0
}

function minute(time: string | null): string {
  return time === null ? '' : time.slice(0, 16).replace('T', ' ')
}
