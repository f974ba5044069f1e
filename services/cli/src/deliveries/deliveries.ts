import type { DeliveriesFilter } from '@curfew/client'
import type { DeadLetterWithAttempts, Delivery, DeliveryWithAttempts } from '@curfew/contract'
import { answered, CallFailed, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { command, type Given, group, text } from '../terminal/arguments.ts'
import { LIMIT_OPTION, limitOf, upTo } from '../terminal/pages.ts'
import { plain, table } from '../terminal/table.ts'
import { attemptsText } from './attempt-text.ts'

const LIST = {
  client: text('CLIENT_ID', 'only to this relying party'),
  state: text('pending|in_flight|acknowledged|superseded|lapsed|dead_lettered', 'only in this state'),
  event: text('ID', 'only of this logout event'),
  channel: text('KIND', 'only by this channel'),
  since: text('TIME', 'only planned at or after this time (RFC 3339)'),
  until: text('TIME', 'only planned before this time'),
  issuer: text('NAME', 'only of this issuer'),
  ...LIMIT_OPTION,
  ...CONNECTION_OPTIONS,
} as const

export const deliveries = group('deliveries of logouts to relying parties', {
  list: command(
    {
      about: 'list deliveries, the latest first',
      options: LIST,
      examples: ['curfew deliveries list --client crm --state pending'],
    },
    list,
  ),
  show: command(
    {
      about: 'show a delivery with its attempts, and how to correct it if it failed',
      words: { '<ID>': 'the id of the delivery, as in deliveries list or events show' },
      options: CONNECTION_OPTIONS,
    },
    show,
  ),
})

async function list({ values }: Given<typeof LIST>): Promise<number> {
  const { client: client_id, event: event_id, issuer, channel, state, since, until } = values
  const filter: DeliveriesFilter = {
    ...(issuer !== undefined && { issuer }),
    ...(client_id !== undefined && { client_id }),
    ...(channel !== undefined && { channel }),
    ...(event_id !== undefined && { event_id }),
    ...(state !== undefined && { state }),
    ...(since !== undefined && { since }),
    ...(until !== undefined && { until }),
  }
  const limit = limitOf(values)
  const client = connect(values)
  const page = await upTo<Delivery>(limit, (part) => answered(client.listDeliveries({ ...filter, ...part })))
  const { items, next_cursor } = page
  if (values.json === true) process.stdout.write(`${JSON.stringify(page)}\n`)
  else if (items.length === 0) process.stdout.write('No deliveries.\n')
  else {
    const rows = items.map((item) => [
      item.id,
      second(item.planned_at),
      item.issuer,
      item.client_id,
      item.channel,
      item.endpoint,
      stateOf(item),
      item.attempt_count,
      item.elapsed_ms ?? '',
      item.event_id,
    ])
    const head = ['ID', 'PLANNED (UTC)', 'ISSUER', 'CLIENT', 'CHANNEL', 'ENDPOINT', 'STATE']
    process.stdout.write(table([[...head, 'ATTEMPTS', 'MS', 'EVENT'], ...rows]))
    if (next_cursor !== null) process.stdout.write('There are more. Raise --limit, or narrow the filter.\n')
  }
  return 0
}

async function show({ values, positionals }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  const client = connect(values)
  const [id = ''] = positionals
  const delivery = await answered(client.getDelivery(id))
  const remedy =
    delivery.state === 'dead_lettered' ? await remedyOf(answered(client.getDeadLetter(id))) : null
  process.stdout.write(
    values.json === true ? `${JSON.stringify({ ...delivery, ...remedy })}\n` : inWords(delivery, remedy),
  )
  return 0
}

/** The fault of a dead letter, and how to correct it. */
type Remedy = Pick<DeadLetterWithAttempts, 'what' | 'fix'>

/** @returns null if the key may not read dead letters, or a replay has put the delivery back in the meantime. */
async function remedyOf(letter: Promise<DeadLetterWithAttempts>): Promise<Remedy | null> {
  try {
    const { what, fix } = await letter
    return { what, fix }
  } catch (error) {
    if (error instanceof CallFailed && !error.passing) return null
    throw error
  }
}

const NAMED = { session: null, subject: 'all sessions of the subject', issuer: 'all sessions of the issuer' }

function inWords(delivery: DeliveryWithAttempts, remedy: Remedy | null): string {
  const fix = remedy?.fix ?? delivery.fix
  const facts: readonly (readonly [string, string])[] = [
    ['delivery', delivery.id],
    ['event', delivery.event_id],
    [
      'relying party',
      `${delivery.client_name ?? delivery.client_id} (${delivery.issuer}/${delivery.client_id})`,
    ],
    ['channel', delivery.channel],
    ...(delivery.endpoint === 'main' ? [] : [['endpoint', delivery.endpoint] as const]),
    ...(delivery.fallback_for === null ? [] : [['fallback for', delivery.fallback_for] as const]),
    ['session', NAMED[delivery.names] ?? delivery.sid ?? ''],
    ['state', stateOf(delivery)],
    ...(delivery.level === null ? [] : [['level', delivery.level] as const]),
    ...(delivery.evidence.length === 0 ? [] : [['evidence', delivery.evidence.join(' ')] as const]),
    ['planned', delivery.planned_at],
    ...(delivery.due_at === null ? [] : [['due', delivery.due_at] as const]),
    ...(delivery.settled_at === null
      ? []
      : [['settled', `${delivery.settled_at}${took(delivery.elapsed_ms)}`] as const]),
    ...(delivery.superseded_by === null ? [] : [['superseded by', delivery.superseded_by] as const]),
    ...(delivery.generation === 0 ? [] : [['replayed', `${delivery.generation} times`] as const]),
    ...(delivery.erased_at === null ? [] : [['erased', delivery.erased_at] as const]),
    ...(remedy === null ? [] : [['what', remedy.what] as const]),
    ...(fix === null ? [] : [['fix', fix] as const]),
  ]
  return `${facts.map(([name, value]) => `${name.padEnd(14)}${plain(value)}\n`).join('')}\n${attemptsText(delivery)}`
}

function took(elapsedMs: number | null): string {
  return elapsedMs === null ? '' : `, ${elapsedMs} ms after acceptance`
}

function stateOf({ state, dead_letter_reason }: Delivery): string {
  return dead_letter_reason === null ? state : `${state}: ${dead_letter_reason}`
}

function second(time: string): string {
  return time.slice(0, 19).replace('T', ' ')
}
