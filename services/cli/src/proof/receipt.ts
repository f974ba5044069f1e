import { ApiError } from '@curfew/client'
import { LEVEL_MEANINGS, LEVELS, weaker } from '@curfew/domain'
import { answered, CallFailed, CONNECTION_OPTIONS, connect, JSON_OPTION } from '../calls/connect.ts'
import { command, flag, type Given, group, text, UsageError } from '../terminal/arguments.ts'
import { readCheckpoint, readKey, readText, writeText } from '../terminal/files.ts'
import { plain, table } from '../terminal/table.ts'
import { type CheckedReceipt, checkReceipt, readReceiptFile } from './receipt-check.ts'

const GET = {
  issuer: text('NAME', 'the issuer of the event, if several issuers use the id'),
  out: text('FILE', 'the file to write (default: standard output)'),
  checkpoint: text('FILE', 'also prove that the receipt log begins with the log of this checkpoint'),
  'subject-key': flag('also fetch the key that the subject is hashed with'),
  // The output is always JSON.
  ...CONNECTION_OPTIONS,
} as const
const VERIFY = {
  checkpoint: text('FILE', 'an older checkpoint: the receipt log must have grown from it'),
  key: text('FILE', 'the trusted key: a verifier key (C2SP signed-note), a JWK or a JWK Set'),
  sub: text('SUB', 'the subject that the receipt should name'),
  sid: text('SID', 'the session that the receipt should name'),
  ...JSON_OPTION,
} as const

export const receipt = group('proofs of logouts', {
  get: command(
    {
      about: 'fetch the receipt of a logout, with everything that an offline check needs',
      words: { '<EVENT_ID>': 'the id of the event' },
      options: GET,
    },
    get,
  ),
  verify: command(
    {
      about: 'check a receipt offline',
      words: { '<FILE>': 'the output of receipt get, or a receipt alone' },
      options: VERIFY,
      notes: 'Exit status 0: all requested checks have passed.',
    },
    verify,
  ),
})

async function get({ values, positionals }: Given<typeof GET>): Promise<number> {
  const from = (await readCheckpoint(values.checkpoint))?.says.size
  const [id = ''] = positionals
  const asked = connect(values).getReceipt(id, {
    ...(values.issuer !== undefined && { issuer: values.issuer }),
    ...(from !== undefined && { from }),
    ...(values['subject-key'] === true && { subject_key: true }),
  })
  const bundle = await answered(asked.catch((error: unknown) => Promise.reject(asShrunk(error))))
  await writeText(values.out, `${JSON.stringify(bundle, null, 2)}\n`)
  return 0
}

/** The failure if the receipt log is smaller than the given checkpoint. This is not a fault of the command line. */
function asShrunk(error: unknown): unknown {
  if (!(error instanceof ApiError) || error.problem.errors?.[0]?.pointer !== '/from') return error
  return new CallFailed(
    'The receipt log has fewer entries than the given checkpoint: entries were removed.',
    {
      passing: false,
      cause: error,
    },
  )
}

/** Checks a receipt offline. Exit status 1 if a requested check fails. */
async function verify({ values, positionals }: Given<typeof VERIFY>): Promise<number> {
  const [path = ''] = positionals
  const file = readReceiptFile(await readText(path))
  if (file === null) throw new UsageError(`${path} is not a receipt.`)
  const older = await readCheckpoint(values.checkpoint)
  const checked = await checkReceipt(file, {
    older: older?.note ?? null,
    key: await readKey(values.key),
    expected: { sub: values.sub ?? null, sid: values.sid ?? null },
  })
  if (checked === null) throw new UsageError('The file has no key. Give --key.')
  const { ok, findings, claims, key, pinned } = checked
  process.stdout.write(
    values.json === true
      ? `${JSON.stringify({ ok, findings, key: { kid: key.kid, pinned }, claims })}\n`
      : inWords(checked),
  )
  return ok ? 0 : 1
}

const MARK = { yes: 'yes', no: 'NO', not_asked: '-' } as const

function inWords({ ok, findings, claims, key, pinned }: CheckedReceipt): string {
  const lines = findings.map(
    ({ check, result, detail }) => `${check.padEnd(12)} ${MARK[result].padEnd(4)} ${plain(detail)}\n`,
  )
  const keyNote = pinned
    ? ''
    : `The key came with the receipt. Compare it with the key that the operator publishes, or give --key: ${key.kid}\n`
  // The content of an invalid receipt is not shown, because a reader might believe it.
  const content = !ok || claims === null ? '' : `\n${story(claims)}`
  return `${lines.join('')}${keyNote}${ok ? 'The receipt is valid.' : 'The receipt is not valid.'}\n${content}`
}

const HEAD = [
  'CLIENT',
  'CHANNEL',
  'ENDPOINT',
  'STATE',
  'LEVEL',
  'SETTLED AT (UTC)',
  'AFTER MS',
  'ATTEMPTS',
  'KEPT',
]

function story({ event, targets, sla, replaces }: NonNullable<CheckedReceipt['claims']>): string {
  const named = event.sub ?? event.sid ?? (event.sub_hmac === undefined ? 'a session' : 'a subject (hashed)')
  const rows = targets.map((target) => [
    target.client_id,
    target.channel,
    target.endpoint,
    target.reason === undefined ? target.state : `${target.state}: ${target.reason}`,
    target.level ?? '',
    target.settled_at,
    target.elapsed_ms,
    target.attempts,
    // Absent without an SLA: the issuer has none, or the logout is in the bulk lane.
    target.kept === undefined ? '-' : target.kept ? 'yes' : 'no',
  ])
  const levels = targets.flatMap(({ level }) => LEVELS.filter((known) => known === level))
  const weakest = levels.length === 0 ? null : levels.reduce((one, other) => weaker(one, other))
  const asserted =
    weakest === null ? '' : `The weakest acknowledgement is ${weakest}: ${LEVEL_MEANINGS[weakest]}\n`
  const promise = sla === undefined ? '' : `SLA of ${sla.within_ms} ms: ${sla.kept ? 'kept' : 'not kept'}.\n`
  const instead =
    replaces === undefined
      ? ''
      : `It replaces entry ${replaces}, because a delivery was replayed or a session was posted late.\n`
  return `${plain(`Logout of ${named} at ${event.iss}, accepted ${event.accepted_at} (event ${event.id}).`)}\n${
    rows.length === 0 ? 'No relying party had to be notified.\n' : table([HEAD, ...rows])
  }${asserted}${promise}${instead}`
}
