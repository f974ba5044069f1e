import type { Audit } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { ISSUER_OPTION } from '../registry/issuer.ts'
import { command, type Given, group, text } from '../terminal/arguments.ts'
import { LIMIT_OPTION, limitOf, upTo } from '../terminal/pages.ts'
import { plain, table } from '../terminal/table.ts'
import { RUN_OPTIONS, run } from './run.ts'
import { SCHEDULE_OPTIONS, schedule } from './schedule.ts'

const LIST = {
  ...ISSUER_OPTION,
  client: text('ID', 'only this client'),
  result: text('passed|failed|inconclusive', 'only audits with this result'),
  ...LIMIT_OPTION,
  ...CONNECTION_OPTIONS,
} as const

export const audit = group('synthetic logouts: whether relying parties end their sessions', {
  run: command(
    {
      about: 'audit the relying parties that have a set-up',
      options: RUN_OPTIONS,
      notes: 'Exit status with --wait: 0 if every audit passed, 1 if one failed or is inconclusive.',
      examples: ['curfew audit run --issuer main --client wiki --wait'],
    },
    run,
  ),
  list: command({ about: 'list audits, the latest first', options: LIST }, list),
  show: command(
    {
      about: 'show an audit',
      words: { '<ID>': 'the id of the audit' },
      options: CONNECTION_OPTIONS,
      notes: 'Exit status: 0 if the audit passed, 1 if it failed, is inconclusive or has not ended.',
    },
    show,
  ),
  schedule: command(
    {
      about: 'set up the audits of a relying party, change their schedule, or show the set-up',
      words: { '<CLIENT>': 'the client_id' },
      options: SCHEDULE_OPTIONS,
      notes:
        'A new schedule begins at once: its first audit runs within a minute. A --file without every_s leaves the schedule as it is; only --off ends it.',
      examples: [
        'curfew audit schedule wiki --issuer main --file setup.json --every 1h',
        'curfew audit schedule wiki --issuer main --off',
      ],
    },
    schedule,
  ),
})

async function list({ values }: Given<typeof LIST>): Promise<number> {
  const { issuer, client, result } = values
  const limit = limitOf(values)
  const api = connect(values)
  const page = await upTo<Audit>(limit, (part) =>
    answered(
      api.listAudits({
        ...part,
        ...(issuer !== undefined && { issuer }),
        ...(client !== undefined && { client_id: client }),
        // The server refuses unknown results, and lists the valid ones.
        ...(result !== undefined && { result: result as NonNullable<Audit['result']> }),
      }),
    ),
  )
  if (values.json === true) process.stdout.write(`${JSON.stringify(page)}\n`)
  else if (page.items.length === 0) process.stdout.write('No audits.\n')
  else process.stdout.write(auditTable(page.items))
  return 0
}

/** Shows an audit. Exit status 1 unless it passed. */
async function show({ values, positionals }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  const found = await answered(connect(values).getAudit(positionals[0] ?? ''))
  process.stdout.write(values.json === true ? `${JSON.stringify(found)}\n` : inWords(found))
  return found.result === 'passed' ? 0 : 1
}

/** Audits as a table. */
function auditTable(audits: readonly Audit[]): string {
  const rows = audits.map(
    ({ issuer, client_id, requested_at, state, result, reason, propagation_ms, id }) => [
      ...[requested_at.slice(0, 19).replace('T', ' '), issuer, client_id, result ?? state, reason ?? ''],
      ...[propagation_ms ?? '', id],
    ],
  )
  return table([['REQUESTED (UTC)', 'ISSUER', 'CLIENT', 'RESULT', 'REASON', 'MS', 'ID'], ...rows])
}

function inWords(found: Audit): string {
  const { client_id, issuer, state, result, reason, what, fix, delivery, check, event_id } = found
  const facts: readonly (readonly [string, string | null])[] = [
    ['audit', `${found.id} of ${client_id} at ${issuer}`],
    ['result', result === null ? state : `${result}${reason === null ? '' : ` (${reason})`}`],
    ['what', what],
    ['fix', fix],
    [
      'delivery',
      delivery === null ? null : `${delivery.state}${delivery.level === null ? '' : `, ${delivery.level}`}`,
    ],
    ['last check', check === null ? null : `${check.says} (${check.status ?? 'no answer'})`],
    ['event', event_id],
  ]
  return facts
    .flatMap(([fact, value]) => (value === null ? [] : [`${fact.padEnd(12)}${plain(value)}\n`]))
    .join('')
}
