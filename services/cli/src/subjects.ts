import type { Erasure } from '@curfew/contract'
import { group, parse, UsageError } from './arguments.ts'
import { answered, CONNECTION_OPTIONS, connect } from './connect.ts'
import { issuerOf } from './issuer.ts'
import { agreed, whyFailed } from './jobs.ts'

const OPTIONS = { ...CONNECTION_OPTIONS, json: { type: 'boolean' } } as const

/** `curfew subjects erase|show`. */
export const subjects = group('subjects', { erase, show })

/** Exit status 1 where something is left, or nobody agreed. */
async function erase(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(
    args,
    {
      ...OPTIONS,
      issuer: { type: 'string' },
      email: { type: 'string' },
      abandon: { type: 'boolean' },
      yes: { type: 'boolean' },
    },
    1,
  )
  const [sub = ''] = positionals
  const abandon = values.abandon === true
  if (values.yes !== true && !process.stdin.isTTY)
    throw new UsageError('Nobody is here to be asked: give --yes to forget the subject for good.')
  const client = connect(values)
  const issuer = await issuerOf(client, values.issuer)
  const what = abandon ? ', and give up what of them is not settled,' : ''
  if (values.yes !== true && !(await agreed(`Forget ${sub} of ${issuer}${what} for good?`))) {
    process.stderr.write('Nothing was erased.\n')
    return 1
  }
  const { email } = values
  const erasure = client.eraseSubject(issuer, sub, { abandon, ...(email !== undefined && { email }) })
  return told(await answered(erasure), values.json === true)
}

async function show(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, OPTIONS, 1)
  return told(await answered(connect(values).getErasure(positionals[0] ?? '')), values.json === true)
}

function told(erasure: Erasure, json: boolean): number {
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
    `Erased so far: ${events} events, ${deliveries} deliveries, the words in ${attempts} attempts, ${sessions} sessions, ${receipts} receipts, ${quarantined} quarantined records.`,
  ]
  if (failure !== null)
    lines.push(`${whyFailed({ failure })}Nothing more is erased until the same is asked for again.`)
  else if (closed_at !== null) lines.push(`Nothing is left. The request was closed at ${closed_at}.`)
  else if (status === 'completed')
    lines.push(`Nothing is left. What comes until ${watched_until} is erased as well.`)
  else if (waiting === null) lines.push('The bookkeeper is at it.')
  else {
    const left: readonly (readonly [count: number, what: string])[] = [
      [waiting.deliveries, 'Deliveries under way, which are ended first'],
      [waiting.recent, 'Logouts of the last hour, for a session that they end may be posted late'],
      [
        waiting.dead_letters,
        abandon
          ? 'Dead letters, which go once all else of their events may'
          : 'Dead letters: replay them (curfew dlq), or give them up with --abandon',
      ],
      [
        waiting.sessions,
        `Open sessions${abandon ? '' : ', until they are logged out, ended or expired, or with --abandon'}`,
      ],
      [waiting.quarantined, `Quarantined records${abandon ? '' : ', which go with --abandon'}`],
    ]
    lines.push('Waiting:', ...left.filter(([count]) => count > 0).map(([count, what]) => `${count}  ${what}`))
    lines.push('The bookkeeper erases each as soon as nothing keeps it.')
  }
  return `${lines.join('\n')}\nThis request: curfew subjects show ${id}\n`
}
