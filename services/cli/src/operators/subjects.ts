import type { Erasure } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { agreed, whyFailed } from '../calls/jobs.ts'
import { ISSUER_OPTION, issuerOf } from '../registry/issuer.ts'
import { command, flag, type Given, group, text, UsageError } from '../terminal/arguments.ts'

const ERASE = {
  email: text(
    'ADDRESS',
    'also logouts that name only this address and a session that the index did not know',
  ),
  abandon: flag('also data that a person could still act on, such as dead letters'),
  yes: flag('do not ask for confirmation'),
  ...ISSUER_OPTION,
  ...CONNECTION_OPTIONS,
} as const

export const subjects = group('the erasure of subjects', {
  erase: command(
    {
      about: 'permanently erase a subject from events, deliveries, sessions and receipts',
      words: { '<SUB>': 'the subject' },
      options: ERASE,
      notes: 'Exit status 0: nothing is left. 1: some data must be settled first, or needs a person.',
    },
    erase,
  ),
  show: command(
    {
      about: 'show a request to erase a subject',
      words: { '<ID>': 'the id of the request' },
      options: CONNECTION_OPTIONS,
    },
    show,
  ),
})

/** Erases a subject. Exit status 1 if data is left, or the person declined. */
async function erase({ values, positionals }: Given<typeof ERASE>): Promise<number> {
  const [sub = ''] = positionals
  const abandon = values.abandon === true
  if (values.yes !== true && !process.stdin.isTTY)
    throw new UsageError(
      'There is no terminal to ask for confirmation: give --yes to erase the subject permanently.',
    )
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const more = abandon ? ', also from data that a person could still act on' : ''
  if (values.yes !== true && !(await agreed(`Permanently erase ${sub} of ${issuer}${more}?`))) {
    process.stderr.write('Nothing was erased.\n')
    return 1
  }
  const { email } = values
  const erasure = client.eraseSubject(issuer, sub, { abandon, ...(email !== undefined && { email }) })
  return report(await answered(erasure), values.json === true)
}

async function show({ values, positionals }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  return report(await answered(connect(values).getErasure(positionals[0] ?? '')), values.json === true)
}

function report(erasure: Erasure, json: boolean): number {
  process.stdout.write(json ? `${JSON.stringify(erasure)}\n` : inWords(erasure))
  return erasure.status === 'completed' ? 0 : 1
}

function inWords({
  id,
  failure,
  status,
  abandon,
  erased,
  waiting,
  watched_until,
  closed_at,
}: Erasure): string {
  const { events, deliveries, attempts, sessions, receipts, quarantined } = erased
  const lines = [
    `Erased so far: ${events} events, ${deliveries} deliveries, the texts of ${attempts} attempts, ${sessions} sessions, ${receipts} receipts, ${quarantined} quarantined records.`,
  ]
  if (failure !== null) lines.push(`${whyFailed({ failure })}Repeat the request to continue the erasure.`)
  else if (closed_at !== null) lines.push(`Nothing is left. The request was closed at ${closed_at}.`)
  else if (status === 'completed')
    lines.push(`Nothing is left. Data that arrives until ${watched_until} is erased too.`)
  else if (waiting === null) lines.push('The bookkeeper is still searching.')
  else {
    const left: readonly (readonly [count: number, what: string])[] = [
      [waiting.deliveries, 'Unsettled deliveries, which must be settled first'],
      [waiting.recent, 'Logouts of the last hour, because a session that they end may be posted late'],
      [
        waiting.dead_letters,
        abandon
          ? 'Dead letters, which are erased with the other data of their events'
          : 'Dead letters: replay them (curfew dlq), or erase them with --abandon',
      ],
      [
        waiting.sessions,
        `Open sessions${abandon ? '' : ': they are erased when they are logged out, ended or expired, or with --abandon'}`,
      ],
      [waiting.quarantined, `Quarantined records${abandon ? '' : ': erase them with --abandon'}`],
    ]
    lines.push('Waiting:', ...left.filter(([count]) => count > 0).map(([count, what]) => `${count}  ${what}`))
    lines.push('The bookkeeper erases these as soon as it can.')
  }
  return `${lines.join('\n')}\nThis request: curfew subjects show ${id}\n`
}
