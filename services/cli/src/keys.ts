import type { SigningKeyInput, SigningKeys } from '@curfew/contract'
import { parse, UsageError } from './arguments.ts'
import { answered, CONNECTION_OPTIONS, connect } from './connect.ts'
import { issuerOf } from './issuer.ts'
import { readKeyFile } from './key-file.ts'
import { table } from './table.ts'

const COMMON = { ...CONNECTION_OPTIONS, issuer: { type: 'string' }, json: { type: 'boolean' } } as const
const LEAD = { 'lead-hours': { type: 'string' } } as const

const COMMANDS: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = {
  list,
  generate,
  import: importKey,
  rotate,
  retire,
  // It changes the ledger directly and needs the code of the services, so it is loaded only on use.
  rewrap: async (args) => (await import('./keys-rewrap.ts')).rewrapCommand(args),
}

/** `curfew keys list|generate|import|rotate|retire|rewrap`. @returns the exit status. */
export async function keys([name, ...args]: readonly string[]): Promise<number> {
  if (name === undefined) throw new UsageError('keys what? list, generate, import, rotate, retire, rewrap.')
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (command === undefined) throw new UsageError(`There is no command keys ${name}.`)
  return command(args)
}

async function list(args: readonly string[]): Promise<number> {
  const { values } = parse(args, { ...COMMON, all: { type: 'boolean' } })
  const client = connect(values)
  const found = await answered(client.listKeys(await issuerOf(client, values.issuer)))
  return show(found, { json: values.json, all: values.all })
}

async function generate(args: readonly string[]): Promise<number> {
  const { values } = parse(args, { ...COMMON, ...LEAD, alg: { type: 'string' } })
  if (values.alg === undefined) throw new UsageError('The algorithm is missing. Give --alg, such as ES256.')
  return add(values, { alg: values.alg as NonNullable<SigningKeyInput['alg']> })
}

async function importKey(args: readonly string[]): Promise<number> {
  const options = {
    ...COMMON,
    ...LEAD,
    alg: { type: 'string' },
    kid: { type: 'string' },
    'sign-now': { type: 'boolean' },
  } as const
  const { values, positionals } = parse(args, options, 1)
  const { jwk, alg, notes } = await readKeyFile(positionals[0] ?? '', values)
  for (const note of notes) process.stderr.write(`${note}\n`)
  return add(values, {
    jwk: { ...jwk },
    ...(alg !== undefined && { alg: alg as NonNullable<SigningKeyInput['alg']> }),
    ...(values['sign-now'] === true && { sign_from: 'now' as const }),
  })
}

async function rotate(args: readonly string[]): Promise<number> {
  const options = {
    ...COMMON,
    ...LEAD,
    alg: { type: 'string' },
    immediately: { type: 'boolean' },
    'every-days': { type: 'string' },
  } as const
  const { values } = parse(args, options)
  const client = connect(values)
  const every = values['every-days']
  if (every !== undefined && every !== 'never' && !/^[1-9]\d*$/.test(every))
    throw new UsageError('--every-days must be a whole number from 1, or never.')
  const rotated = await answered(
    client.rotateKeys(await issuerOf(client, values.issuer), {
      ...leadOf(values),
      ...(values.alg !== undefined && { alg: values.alg as NonNullable<SigningKeyInput['alg']> }),
      ...(values.immediately === true && { immediately: true }),
      ...(every !== undefined && { every_days: every === 'never' ? null : Number(every) }),
    }),
  )
  return show(rotated, values)
}

async function retire(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, { ...COMMON, compromised: { type: 'boolean' } }, 1)
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
  if (kid_reason != null) process.stderr.write(`kid ${kid}: ${kid_reason}\n`)
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
