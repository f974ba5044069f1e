import type { Client } from '@curfew/client'
import type { Webhook, WebhookDelivery, WebhookInput } from '@curfew/contract'
import { answered, CallFailed, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { command, flag, type Given, group, text, texts, UsageError } from '../terminal/arguments.ts'
import { table } from '../terminal/table.ts'

const PUT = {
  to: text('URL', 'the address that receives the notifications'),
  type: texts('TYPE', 'only notifications of this type'),
  issuer: text('NAME', 'only notifications about this issuer'),
  disabled: flag('send nothing to it'),
  ...CONNECTION_OPTIONS,
} as const
const PAGE_MAX = 500
/** Longest wait for the result of a test, in milliseconds. */
const TEST_WAIT_MS = 15_000
/** Interval of checking for the result, in milliseconds. */
const TEST_POLL_MS = 250

const NAME = { '<NAME>': 'the name of the webhook' }

export const webhooks = group('receivers of notifications for operators', {
  list: command({ about: 'list the webhooks', options: CONNECTION_OPTIONS }, list),
  put: command(
    {
      about: 'register or change a webhook; shows the secret of a new webhook once',
      words: NAME,
      options: PUT,
      examples: ['curfew webhooks put oncall --to https://hooks.example.com/curfew'],
    },
    put,
  ),
  delete: command({ about: 'delete a webhook', words: NAME, options: CONNECTION_OPTIONS }, remove),
  test: command(
    { about: 'send a test notification, and show the answer', words: NAME, options: CONNECTION_OPTIONS },
    test,
  ),
})

async function list({ values }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  // The limit of webhooks is lower than a page.
  const { items } = await answered(connect(values).listWebhooks({ limit: PAGE_MAX }))
  if (values.json === true) process.stdout.write(`${JSON.stringify({ items })}\n`)
  else if (items.length === 0) process.stdout.write('No webhooks.\n')
  else {
    const rows = items.map((item) => [
      item.name,
      item.url,
      item.types?.join(' ') ?? 'all',
      item.issuer ?? 'all',
      stateOf(item),
    ])
    process.stdout.write(table([['NAME', 'URL', 'TYPES', 'ISSUER', 'STATE'], ...rows]))
  }
  return 0
}

function stateOf({ enabled, disabled_reason }: Webhook): string {
  if (!enabled) return 'disabled'
  return disabled_reason === null ? 'enabled' : `disabled: ${disabled_reason}`
}

async function put({ values, positionals }: Given<typeof PUT>): Promise<number> {
  const { to, type, issuer, disabled } = values
  if (to === undefined) throw new UsageError('The URL is missing. Give --to URL.')
  const webhook = await answered(
    connect(values).putWebhook(positionals[0] ?? '', {
      url: to,
      // The server refuses unknown types, and lists the valid ones.
      ...(type !== undefined && { types: type as NonNullable<WebhookInput['types']> }),
      ...(issuer !== undefined && { issuer }),
      ...(disabled === true && { enabled: false }),
    }),
  )
  if (values.json === true) process.stdout.write(`${JSON.stringify(webhook)}\n`)
  else if (webhook.secret === undefined) process.stdout.write(`Changed ${webhook.name}.\n`)
  else
    process.stdout.write(
      `Registered ${webhook.name}. Store its secret, which Curfew does not show again:\n${webhook.secret}\n`,
    )
  return 0
}

async function remove({ values, positionals }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  const [name = ''] = positionals
  await answered(connect(values).deleteWebhook(name))
  process.stdout.write(values.json === true ? `${JSON.stringify({ deleted: name })}\n` : `Deleted ${name}.\n`)
  return 0
}

/** Sends a test notification. Exit status 1 if the receiver did not accept it. */
async function test({ values, positionals }: Given<typeof CONNECTION_OPTIONS>): Promise<number> {
  const [name = ''] = positionals
  const client = connect(values)
  const { id } = await answered(client.testWebhook(name))
  const delivery = await attempted(client, name, id)
  if (values.json === true) process.stdout.write(`${JSON.stringify(delivery)}\n`)
  else process.stdout.write(inWords(name, delivery))
  return delivery.state === 'delivered' ? 0 : 1
}

/** The delivery after its first attempt, or its present state if that takes too long. */
async function attempted(client: Client, name: string, id: string): Promise<WebhookDelivery> {
  for (const deadline = Date.now() + TEST_WAIT_MS; ; ) {
    const { items } = await answered(client.listWebhookDeliveries(name, { limit: PAGE_MAX }))
    const found = items.find((item) => item.id === id)
    if (found === undefined)
      throw new CallFailed(`${name} was deleted during the test.`, { passing: false, cause: undefined })
    if (found.state !== 'pending' || found.error !== null || Date.now() > deadline) return found
    await new Promise((resolve) => setTimeout(resolve, TEST_POLL_MS))
  }
}

function inWords(name: string, { state, status, error, due_at }: WebhookDelivery): string {
  if (state === 'delivered') return `${name} answered ${status}.\n`
  if (error === null) return `The test has not been sent to ${name} yet. Check that a bookkeeper runs.\n`
  return `${name}: ${error}. ${state === 'pending' ? `It is sent again at ${due_at}.` : 'It is not sent again.'}\n`
}
