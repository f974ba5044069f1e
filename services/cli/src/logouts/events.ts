import type { LogoutEventInput, LogoutEventStatus } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { lastErrorText } from '../deliveries/attempt-text.ts'
import { issOf } from '../registry/issuer.ts'
import { command, flag, type Given, group, text, texts, UsageError } from '../terminal/arguments.ts'
import { plain, table } from '../terminal/table.ts'

const WAIT_S_MAX = 30
const POST = {
  iss: text('ISS', 'the issuer, as in ID tokens, if there are several'),
  sub: text('SUB', 'the subject'),
  sid: text('SID', 'the session'),
  email: text('EMAIL', 'the email address of the subject'),
  scope: text('session|subject|device', 'the sessions to end'),
  device: text('DEVICE', 'the device, with --scope device'),
  reason: text('REASON', 'the reason of the logout'),
  initiator: text('CLIENT_ID', 'the relying party that started the logout; it is not notified'),
  'include-initiator': flag('notify the initiator as well'),
  client: texts('CLIENT_ID', 'notify only this relying party'),
  lane: text('interactive|bulk', 'the lane'),
  id: text('UUID', 'the id of the event, which makes a repetition harmless'),
  ...CONNECTION_OPTIONS,
} as const
const SHOW = {
  wait: text('SECONDS', `wait until every delivery is settled, for at most SECONDS (up to ${WAIT_S_MAX})`),
  issuer: text('NAME', 'the issuer of the event, if several issuers use the id'),
  ...CONNECTION_OPTIONS,
} as const

export const events = group('logout events', {
  post: command(
    {
      about: 'log out a user: --sub or --sid or both',
      options: POST,
      examples: ['curfew events post --iss https://idp.example.com --sub alice'],
    },
    post,
  ),
  show: command(
    {
      about: 'show a logout and its deliveries',
      words: { '<ID>': 'the id of the event' },
      options: SHOW,
    },
    show,
  ),
})

async function post({ values }: Given<typeof POST>): Promise<number> {
  const {
    iss,
    client: clients,
    url: _url,
    key: _key,
    json,
    'include-initiator': include,
    ...members
  } = values
  if (members.sub === undefined && members.sid === undefined)
    throw new UsageError('The user is missing. Give --sub SUBJECT or --sid SESSION, or both.')
  const client = connect(values)
  const accepted = await answered(
    client.postLogoutEvent({
      iss: await issOf(client, iss),
      // The server refuses invalid values, and lists the valid ones.
      ...(members as Omit<LogoutEventInput, 'iss'>),
      ...(clients !== undefined && { clients }),
      ...(include === true && { include_initiator: true }),
    }),
  )
  if (json === true) process.stdout.write(`${JSON.stringify(accepted)}\n`)
  else process.stdout.write(`Accepted as ${accepted.id}.\n`)
  return 0
}

async function show({ values, positionals }: Given<typeof SHOW>): Promise<number> {
  const [id = ''] = positionals
  const wait = Number(values.wait ?? 0)
  if (!Number.isInteger(wait) || wait < 0 || wait > WAIT_S_MAX)
    throw new UsageError(`--wait must be a whole number of seconds, up to ${WAIT_S_MAX}.`)
  const client = connect(values)
  const of = values.issuer === undefined ? {} : { issuer: values.issuer }
  const event = await answered(client.getLogoutEvent(id, { wait, ...of }))
  if (values.json === true) process.stdout.write(`${JSON.stringify(event)}\n`)
  else if (event.scope === 'issuer') process.stdout.write(inWords(event, ofIssuerLogout(event)))
  else process.stdout.write(inWords(event, (await answered(client.getEventSummary(id, of))).text))
  return 0
}

/** Notes about an unusual basis of the plan. */
const BASIS: Readonly<Record<LogoutEventStatus['plan_basis'], string>> = {
  sessions: '',
  registered: '',
  index_unavailable: ' (the session index did not answer, so all relying parties are notified)',
  unknown_issuer: ' (not registered)',
}

/** The text for an issuer logout. It has no summary, because it is not about one person. */
function ofIssuerLogout({ id, issuer_logout: job }: LogoutEventStatus): string {
  const progress = job === null ? '' : ` (${job.done} of ${job.total ?? 'a yet unknown number of'} subjects)`
  return `All subjects of the issuer are being logged out${progress}. Progress: curfew issuer-logout --follow ${id}`
}

function inWords(event: LogoutEventStatus, text: string): string {
  const took = event.elapsed_ms === null ? '' : `, after ${event.elapsed_ms} ms`
  const facts: readonly (readonly [string, string])[] = [
    ['event', event.id],
    ['issuer', event.iss + BASIS[event.plan_basis]],
    ...(event.sub === null ? [] : [['subject', event.sub] as const]),
    ...(event.email === null ? [] : [['email', event.email] as const]),
    ...(event.sid === null ? [] : [['session', event.sid] as const]),
    ['scope', event.scope + (event.device === null ? '' : `: ${event.device}`)],
    ...(event.reason === null ? [] : [['reason', event.reason] as const]),
    ...(event.clients === null ? [] : [['clients', clientsText(event)] as const]),
    ...(event.relayed_for === null ? [] : [['relayed', `for ${event.relayed_for}`] as const]),
    ['accepted', event.accepted_at],
    ...(event.erased_at === null ? [] : [['erased', event.erased_at] as const]),
    ['status', `${event.status}${took}: ${event.acknowledged} of ${event.total} acknowledged`],
    ['in words', text],
  ]
  const renames = event.deliveries.some(({ sub }) => sub !== null)
  const several = hasSeveralChannels(event)
  const roleOf = (counts: string, fallback: string) => (several ? [counts, fallback] : [])
  const hasError = event.deliveries.some(({ last_error }) => last_error !== null)
  const errorOf = (error: string) => (hasError ? [error] : [])
  const rows = event.deliveries.map((delivery) => [
    delivery.id,
    delivery.client_id,
    delivery.channel,
    delivery.endpoint,
    ...roleOf(delivery.counts, delivery.fallback_for ?? ''),
    delivery.names === 'session' ? (delivery.sid ?? '') : '(all)',
    ...(renames ? [delivery.sub ?? ''] : []),
    delivery.state + (delivery.dead_letter_reason === null ? '' : `: ${delivery.dead_letter_reason}`),
    delivery.level ?? '',
    delivery.attempt_count,
    delivery.elapsed_ms ?? '',
    ...errorOf(lastErrorText(delivery.last_error)),
  ])
  const head = [
    ...['DELIVERY', 'CLIENT', 'CHANNEL', 'ENDPOINT', ...roleOf('COUNTS', 'FALLBACK FOR')],
    ...['SESSION', ...(renames ? ['SUB'] : []), 'STATE', 'LEVEL', 'ATTEMPTS', 'MS', ...errorOf('LAST ERROR')],
  ]
  return (
    facts.map(([name, value]) => `${name.padEnd(10)}${plain(value)}\n`).join('') +
    (rows.length === 0 ? '' : `\n${table([head, ...rows])}`)
  )
}

/** The clients that the event names, with a note at those that were not registered. */
function clientsText({ clients, unregistered_clients: unregistered }: LogoutEventStatus): string {
  const unknown = new Set(unregistered)
  return (clients ?? []).map((id) => (unknown.has(id) ? `${id} (not registered)` : id)).join(', ')
}

/** Whether one relying party has deliveries by several channels. */
function hasSeveralChannels({ deliveries }: LogoutEventStatus): boolean {
  const first = new Map<string, string>()
  return deliveries.some(({ client_id, channel, fallback_for }) => {
    if (!first.has(client_id)) first.set(client_id, channel)
    return fallback_for !== null || first.get(client_id) !== channel
  })
}
