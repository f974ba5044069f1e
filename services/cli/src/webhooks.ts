import type { Client } from '@curfew/client'
import type { Webhook, WebhookDelivery, WebhookInput } from '@curfew/contract'
import { group, parse, UsageError } from './arguments.ts'
import { answered, CallFailed, CONNECTION_OPTIONS, connect } from './connect.ts'
import { table } from './table.ts'

const OPTIONS = { ...CONNECTION_OPTIONS, json: { type: 'boolean' } } as const
const PAGE_MAX = 500
/** Longest wait for the result of a test, in milliseconds. */
const TEST_WAIT_MS = 15_000
/** Interval of checking for the result, in milliseconds. */
const TEST_POLL_MS = 250

/** `curfew webhooks list|put|delete|test`. */
export const webhooks = group('webhooks', { list, put, delete: remove, test })

async function list(args: readonly string[]): Promise<number> {
  const { values } = parse(args, OPTIONS)
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

async function put(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(
    args,
    {
      ...OPTIONS,
      to: { type: 'string' },
      type: { type: 'string', multiple: true },
      issuer: { type: 'string' },
      disabled: { type: 'boolean' },
    },
    1,
  )
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

async function remove(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, OPTIONS, 1)
  const [name = ''] = positionals
  await answered(connect(values).deleteWebhook(name))
  process.stdout.write(values.json === true ? `${JSON.stringify({ deleted: name })}\n` : `Deleted ${name}.\n`)
  return 0
}

/** Sends a test notification. Exit status 1 if the receiver did not accept it. */
async function test(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, OPTIONS, 1)
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
