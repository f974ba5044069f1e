import type { DeadLetter, DeadLetterWithAttempts } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { command, type Given, group } from '../terminal/arguments.ts'
import { LIMIT_OPTION, limitOf } from '../terminal/pages.ts'
import { plain, table } from '../terminal/table.ts'
import { attemptsText } from './attempt-text.ts'
import { FILTER_OPTIONS, filterOf } from './dlq-filter.ts'
import { REPLAY_OPTIONS, replay } from './dlq-replay.ts'

const PAGE_MAX = 500
const LIST = { ...FILTER_OPTIONS, ...LIMIT_OPTION, ...CONNECTION_OPTIONS } as const

export const dlq = group('dead letters, which wait for a person', {
  list: command(
    {
      about: 'list dead letters, with their faults and how to correct them',
      options: LIST,
      examples: ['curfew dlq list --client shop --reason timeout'],
    },
    list,
  ),
  show: command(
    {
      about: 'show a dead letter with all its attempts',
      words: { '<ID>': 'the id of the dead letter, as in dlq list' },
      options: CONNECTION_OPTIONS,
    },
    show,
  ),
  replay: command(
    {
      about: 'replay dead letters; shows the number, then asks for confirmation',
      options: REPLAY_OPTIONS,
      examples: ['curfew dlq replay --client shop --dry-run', 'curfew dlq replay --client shop --yes'],
    },
    replay,
  ),
})

async function list({ values }: Given<typeof LIST>): Promise<number> {
  const limit = limitOf(values)
  const client = connect(values)
  const items: DeadLetter[] = []
  let cursor: string | null = null
  do {
    const page: Awaited<ReturnType<typeof client.listDeadLetters>> = await answered(
      client.listDeadLetters({
        ...filterOf(values),
        limit: Math.min(PAGE_MAX, limit - items.length),
        ...(cursor !== null && { cursor }),
      }),
    )
    items.push(...page.items)
    cursor = page.next_cursor
  } while (cursor !== null && items.length < limit)

  if (values.json === true) {
    process.stdout.write(`${JSON.stringify({ items, next_cursor: cursor })}\n`)
    return 0
  }
  if (items.length === 0) {
    process.stdout.write('No dead letters.\n')
    return 0
  }
  const rows = items.map((item) => [
    item.id,
    item.dead_lettered_at.slice(0, 19).replace('T', ' '),
    item.issuer,
    item.client_id,
    item.channel,
    item.reason + (item.lapsed ? ' (lapsed)' : ''),
    item.what,
  ])
  process.stdout.write(
    table([['ID', 'DIED (UTC)', 'ISSUER', 'CLIENT', 'CHANNEL', 'REASON', 'WHAT'], ...rows]),
  )
  if (cursor !== null) process.stdout.write('There are more. Raise --limit, or narrow the filter.\n')
  return 0
}

async function show({ values, positionals }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  const letter = await answered(connect(values).getDeadLetter(positionals[0] ?? ''))
  process.stdout.write(values.json === true ? `${JSON.stringify(letter)}\n` : inWords(letter))
  return 0
}

function inWords(letter: DeadLetterWithAttempts): string {
  const facts: readonly (readonly [string, string])[] = [
    ['delivery', letter.id],
    ['event', letter.event_id],
    ['relying party', `${letter.client_name ?? letter.client_id} (${letter.issuer}/${letter.client_id})`],
    ['channel', letter.channel],
    ...(letter.endpoint === 'main' ? [] : [['endpoint', letter.endpoint] as const]),
    ['session', letter.sid ?? 'all sessions of the subject'],
    ['given up on', `${letter.dead_lettered_at}, ${afterText(letter)}`],
    ['reason', letter.reason],
    ...(letter.lapsed ? [['lapsed', `the session expired at ${letter.session_ends_at}`] as const] : []),
    ...(letter.replay_id === null
      ? []
      : [['replayed', `${letter.generation} times, last by ${letter.replay_id}`] as const]),
    ['what', letter.what],
    ['fix', letter.fix],
  ]
  return `${facts.map(([name, value]) => `${name.padEnd(14)}${plain(value)}\n`).join('')}\n${attemptsText(letter)}`
}

/** How much was sent before a dead letter. `attempt_count` has the attempts that were sent, and the table all of them. */
function afterText({ attempt_count: sent, attempts }: DeadLetterWithAttempts): string {
  if (sent === 0) return 'before anything was sent'
  const some = `${sent} ${sent === 1 ? 'attempt' : 'attempts'}`
  return attempts.length > sent ? `after ${some} that ${sent === 1 ? 'was' : 'were'} sent` : `after ${some}`
}
