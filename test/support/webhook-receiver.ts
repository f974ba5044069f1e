import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { eventually } from './curfew.ts'

/** One received webhook. */
export interface ReceivedWebhook {
  readonly id: string
  readonly headers: IncomingHttpHeaders
  readonly raw: string
  readonly type: string
  readonly data: Readonly<Record<string, unknown>>
}

export interface WebhookReceiver extends AsyncDisposable {
  readonly url: string
  readonly received: readonly ReceivedWebhook[]
  /** Answers later requests with this status; null: never answers. */
  behave(status: number | null): void
  /** Waits for `count` webhooks in all. */
  told(count: number): Promise<readonly ReceivedWebhook[]>
}

/** A receiver of webhooks on a real port of loopback. It answers 204 by default. */
export async function openWebhookReceiver(): Promise<WebhookReceiver> {
  const received: ReceivedWebhook[] = []
  let status: number | null = 204
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const raw = Buffer.concat(chunks).toString('utf8')
    const { type, data } = JSON.parse(raw) as Pick<ReceivedWebhook, 'type' | 'data'>
    received.push({ id: String(request.headers['webhook-id']), headers: request.headers, raw, type, data })
    if (status !== null) response.writeHead(status).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    received,
    behave(next) {
      status = next
    },
    told: (count) =>
      eventually(() => {
        if (received.length < count) throw new Error(`received ${received.length} of ${count} webhooks`)
        return received
      }),
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
    },
  }
}

/** The indices of the secrets that signed a webhook (Standard Webhooks), in the order of its signatures. */
export function signers(
  { headers, id, raw }: ReceivedWebhook,
  secrets: readonly string[],
): readonly number[] {
  const signed = `${id}.${headers['webhook-timestamp']}.${raw}`
  return String(headers['webhook-signature'])
    .split(' ')
    .map((signature) =>
      secrets.findIndex((secret) => {
        const key = Buffer.from(secret.slice('whsec_'.length), 'base64')
        return signature === `v1,${createHmac('sha256', key).update(signed).digest('base64')}`
      }),
    )
}
