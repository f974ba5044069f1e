import type { Client, QuarantineFilter } from '@curfew/client'
import type { QuarantinedContent, QuarantinedRecord } from '@curfew/contract'
import { answered, CallFailed, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { command, type Given, group, text } from '../terminal/arguments.ts'
import { LIMIT_OPTION, limitOf, upTo } from '../terminal/pages.ts'
import { plain, table } from '../terminal/table.ts'

const LIST = {
  issuer: text('NAME', 'only of this issuer'),
  lane: text('interactive|bulk|sessions', 'only of this lane'),
  kind: text('unreadable|conflict|refused', 'only of this kind'),
  state: text('waiting|requeue_requested|requeued|dismissed', 'only in this state'),
  ...LIMIT_OPTION,
  ...CONNECTION_OPTIONS,
} as const
const IDS = { '<ID...>': 'the ids of the records, as in quarantine list' }

export const quarantine = group('accepted records that cannot be planned or applied', {
  list: command(
    { about: 'list records', options: LIST, examples: ['curfew quarantine list --state waiting'] },
    list,
  ),
  show: command(
    {
      about: 'show a record, why it is in quarantine, and how to correct it',
      words: { '<ID>': 'the id of the record, as in quarantine list' },
      options: CONNECTION_OPTIONS,
    },
    show,
  ),
  requeue: command(
    { about: 'append records to the event log again', words: IDS, options: CONNECTION_OPTIONS },
    (given) =>
      decide(
        given,
        ({ state }) =>
          state === 'requeued'
            ? 'was requeued already: nothing was changed'
            : 'will be appended to the event log again',
        (client, id) => client.requeueQuarantined(id),
      ),
  ),
  dismiss: command({ about: 'ignore records for good', words: IDS, options: CONNECTION_OPTIONS }, (given) =>
    decide(
      given,
      () => 'is dismissed',
      (client, id) => client.dismissQuarantined(id),
    ),
  ),
})

async function list({ values }: Given<typeof LIST>): Promise<number> {
  const limit = limitOf(values)
  const { issuer, lane, kind, state } = values
  const filter: QuarantineFilter = {
    ...(issuer !== undefined && { issuer }),
    ...(lane !== undefined && { lane }),
    ...(kind !== undefined && { kind }),
    ...(state !== undefined && { state }),
  }
  const client = connect(values)
  const { items, next_cursor } = await upTo(limit, (part) =>
    answered(client.listQuarantined({ ...filter, ...part })),
  )
  if (values.json === true) {
    process.stdout.write(`${JSON.stringify({ items, next_cursor })}\n`)
    return 0
  }
  if (items.length === 0) {
    process.stdout.write('No quarantined records.\n')
    return 0
  }
  const rows = items.map((item) => [
    item.id,
    item.quarantined_at.slice(0, 19).replace('T', ' '),
    item.issuer ?? item.iss ?? '',
    item.lane,
    item.kind,
    item.state,
    item.reason,
  ])
  process.stdout.write(
    table([['ID', 'QUARANTINED (UTC)', 'ISSUER', 'LANE', 'KIND', 'STATE', 'REASON'], ...rows]),
  )
  if (next_cursor !== null) process.stdout.write('There are more. Raise --limit, or narrow the filter.\n')
  return 0
}

async function show({ values, positionals }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  const record = await answered(connect(values).getQuarantined(positionals[0] ?? ''))
  process.stdout.write(values.json === true ? `${JSON.stringify(record)}\n` : inWords(record))
  return 0
}

function inWords(record: QuarantinedContent): string {
  const facts: readonly (readonly [string, string])[] = [
    ['record', record.id],
    ['lane', `${record.lane}, at ${record.position}`],
    ['issuer', record.issuer ?? record.iss ?? 'not readable'],
    ['event', record.event_id ?? 'not readable'],
    ['quarantined', record.quarantined_at],
    [
      'state',
      record.decided_by === null
        ? record.state
        : `${record.state}, by ${record.decided_by} at ${record.decided_at}`,
    ],
    ['kind', record.kind],
    ['reason', record.reason],
    ...(record.requeue_error === null ? [] : [['last requeue', record.requeue_error] as const]),
    ['fix', record.fix],
    ['key', record.key],
    ...Object.entries(record.headers).map(([name, value]) => [`header ${name}`, value] as const),
    [
      'value',
      `${record.value_bytes} bytes${record.cut_short ? `, of which ${record.kept_bytes} are kept` : ''}, SHA-256 ${record.value_sha256}`,
    ],
  ]
  return `${facts.map(([name, value]) => `${name.padEnd(14)} ${plain(value)}\n`).join('')}\n${plain(record.value)}\n`
}

/** Requeues or dismisses the named records. Exit status 1 if one of them failed. */
async function decide(
  { values, positionals }: Given<typeof CONNECTION_OPTIONS>,
  done: (record: QuarantinedRecord) => string,
  decision: (client: Client, id: string) => Promise<QuarantinedRecord>,
): Promise<number> {
  const client = connect(values)
  const items: QuarantinedRecord[] = []
  let failed = false
  for (const id of positionals) {
    try {
      const record = await answered(decision(client, id))
      items.push(record)
      if (values.json !== true)
        process.stdout.write(`Record ${plain(record.id)} ${done(record)}.${noteOf(record)}\n`)
    } catch (error) {
      if (!(error instanceof CallFailed)) throw error
      failed = true
      process.stderr.write(`${plain(id)}: ${error.message}\n`)
    }
  }
  if (values.json === true) process.stdout.write(`${JSON.stringify({ items })}\n`)
  return failed ? 1 : 0
}

/** A warning for a requeued record that will return to quarantine. */
function noteOf({ kind, state, fix }: QuarantinedRecord): string {
  return kind === 'conflict' && state === 'requeue_requested' ? ` ${fix}` : ''
}
