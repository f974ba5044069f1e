import { ApiError, type Client } from '@curfew/client'
import type { AuditSetup, AuditSetupInput } from '@curfew/contract'
import { AUDIT_EVERY_S } from '@curfew/domain'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { faultIn } from '../client-file/values.ts'
import { ISSUER_OPTION, issuerOf } from '../registry/issuer.ts'
import { flag, type Given, text, UsageError } from '../terminal/arguments.ts'
import { readText } from '../terminal/files.ts'
import { plain } from '../terminal/table.ts'

export const SCHEDULE_OPTIONS = {
  ...ISSUER_OPTION,
  file: text('FILE', 'the set-up as JSON; - reads standard input'),
  every: text('TIME', 'the time between two audits, such as 30m, 1h or 1d; 5m or more'),
  off: flag('end the schedule, and keep the set-up for audits by hand'),
  delete: flag('delete the set-up with its secrets'),
  ...CONNECTION_OPTIONS,
} as const

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 }

/** `curfew audit schedule`. Without options it shows the set-up. @returns the exit status. */
export async function schedule({ values, positionals }: Given<typeof SCHEDULE_OPTIONS>): Promise<number> {
  const { file, every, off, json = false } = values
  const [clientId = ''] = positionals
  const changes = [file ?? every, off, values.delete].filter((each) => each !== undefined)
  if (changes.length > 1) throw new UsageError('Give --file and --every, or --off, or --delete.')
  const everyS = every === undefined ? undefined : readTime(every)
  const given = file === undefined ? undefined : readSetup(await readText(file), file)
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  if (values.delete === true) {
    await answered(client.deleteAuditSetup(issuer, clientId))
    process.stdout.write(
      json ? `${JSON.stringify({ deleted: clientId })}\n` : `Deleted the set-up of ${plain(clientId)}.\n`,
    )
    return 0
  }
  if (changes.length === 0) return print(await answered(client.getAuditSetup(issuer, clientId)), json)
  const stored = await setupOr(client, { issuer, clientId, isNeeded: given === undefined })
  const { every_s: named, ...setup } = given ?? inputOf(stored as AuditSetup)
  // A file without every_s leaves the schedule as it is. Only --off ends it.
  const next = off === true ? null : (everyS ?? named ?? stored?.every_s ?? null)
  const put = client.putAuditSetup(issuer, clientId, { ...setup, ...(next !== null && { every_s: next }) })
  return print(await answered(put), json, next !== null && next !== stored?.every_s)
}

/** The stored set-up; null if there is none and it is not needed. */
async function setupOr(
  client: Client,
  { issuer, clientId, isNeeded }: { issuer: string; clientId: string; isNeeded: boolean },
): Promise<AuditSetup | null> {
  try {
    return await answered(client.getAuditSetup(issuer, clientId))
  } catch (error) {
    const { cause } = Object(error) as { readonly cause?: unknown }
    if (!isNeeded && cause instanceof ApiError && cause.status === 404) return null
    throw error
  }
}

/** @throws {UsageError} */
function readTime(given: string): number {
  const [, count = '', unit = ''] = /^(\d{1,7})([smhd])$/.exec(given) ?? []
  const seconds = Number(count) * (SECONDS[unit] ?? 0)
  if (seconds === 0)
    throw new UsageError(`--every must be a time such as 30m, 1h or 1d, and not ${plain(given)}.`)
  if (seconds < AUDIT_EVERY_S.min)
    throw new UsageError(`--every must be ${inUnits(AUDIT_EVERY_S.min)} or more.`)
  return seconds
}

/** A time as `--every` takes it. */
function inUnits(seconds: number): string {
  const [unit, size] = Object.entries(SECONDS).findLast(([, each]) => seconds % each === 0) ?? ['s', 1]
  return `${seconds / size}${unit}`
}

/** @throws {UsageError} */
function readSetup(content: string, file: string): AuditSetupInput {
  let parsed: unknown
  try {
    parsed = JSON.parse(content)
    // A text that is nested too deeply can be parsed, and not written again.
    JSON.stringify(parsed)
  } catch (error) {
    const name = file === '-' ? 'Standard input' : file
    const fault = error instanceof RangeError ? 'is nested too deeply' : `is not JSON${faultIn(content)}`
    throw new UsageError(`${name} ${fault}.`, { cause: error })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new UsageError(`${file} is not a JSON object.`)
  // The server checks the members, and names the faulty ones.
  return parsed as AuditSetupInput
}

/** The set-up as it can be put. Its secrets are absent, so the stored ones stay. */
function inputOf({ login, check, refresh, every_s, timeout_s }: AuditSetup): AuditSetupInput {
  return {
    login,
    check,
    ...(refresh !== undefined && { refresh }),
    ...(every_s !== null && { every_s }),
    timeout_s,
  }
}

/** @param isNew whether the schedule begins or has changed, so that its first audit runs at once. */
function print(setup: AuditSetup, json: boolean, isNew = false): number {
  const note = isNew ? 'The first audit runs within a minute.\n' : ''
  process.stdout.write(json ? `${JSON.stringify(setup)}\n` : `${inWords(setup)}${note}`)
  return 0
}

function inWords({ issuer, client_id, login, check, refresh, ...setup }: AuditSetup): string {
  const secrets = setup.secrets.length === 0 ? '' : `, with ${setup.secrets.join(' and ')}`
  const facts: readonly (readonly [string, string])[] = [
    ['client', `${client_id} at ${issuer}`],
    [
      'login',
      login.kind === 'http'
        ? `${login.method} ${login.url}${secrets}`
        : `${login.username} at ${login.start_url}${secrets}`,
    ],
    ['check', check.url],
    ...(refresh === undefined ? [] : [['refresh', `${refresh.method} ${refresh.url}`] as const]),
    [
      'schedule',
      setup.every_s === null
        ? 'by hand only'
        : `every ${inUnits(setup.every_s)}, next at ${setup.next_due_at}`,
    ],
    ['timeout', `${setup.timeout_s} s`],
    ['last result', setup.last_result ?? 'none'],
  ]
  return facts.map(([fact, value]) => `${fact.padEnd(12)}${plain(value)}\n`).join('')
}
