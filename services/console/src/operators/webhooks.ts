import {
  PageQuery,
  page,
  RotateSecretInput,
  type Scope,
  Webhook,
  WebhookDeliveriesQuery,
  WebhookDelivery,
  WebhookInput,
  WebhookTest,
} from '@curfew/contract'
import type { NetworkAccess } from '@curfew/domain'
import {
  changeWebhook,
  createWebhook,
  type Database,
  deleteWebhook,
  findIssuer,
  findWebhook,
  listWebhookDeliveries,
  listWebhooks,
  rotateWebhookSecret,
  testWebhook,
  WEBHOOKS_MAX,
  type WebhookDeliveryRecord,
  type WebhookRecord,
} from '@curfew/ledger'
import { callerOf, type Fault, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import type { Pages } from '../http/pages.ts'
import { invalid } from '../http/query.ts'
import { OVERLAP_MS, secretFaults } from '../http/signing-secrets.ts'
import { networkFaults } from '../registry/networks.ts'

export interface WebhooksDeps {
  readonly pages: Pages
  readonly db: Database
  /** The database for the list of notifications. */
  readonly reads: Database
  /** The fault of a URL, in words; null if there is none. */
  readonly targetFault: (uri: string, access: NetworkAccess) => string | null
  readonly sealSecret: (secret: string, webhook: string) => Promise<string>
  /** Makes a new secret in its text form. */
  readonly newSecret: () => string
}

const ACCESS = { scope: 'admin', access: 'unbound' } satisfies RouteAccess<Scope>

const WebhookParams = Type.Object({
  name: Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$', description: 'Name of the webhook.' }),
})

/** `/v1/webhooks`: the URLs that receive notifications for operators. */
export function registerWebhooks(server: HttpServer, deps: WebhooksDeps): void {
  const { db, reads, pages, sealSecret, newSecret } = deps

  server.put(
    '/v1/webhooks/:name',
    {
      config: ACCESS,
      schema: {
        operationId: 'putWebhook',
        tags: ['Webhooks'],
        summary:
          'Register a webhook, or change its settings. Only the answer for a new webhook has its secret.',
        params: WebhookParams,
        body: WebhookInput,
        response: { 200: Webhook, 201: Webhook },
      },
    },
    async (request, reply) => {
      const { name } = request.params
      const { url, types = null, issuer = null, enabled = true, allowed_networks = [], secret } = request.body
      checkInput(request.body, deps)
      if (issuer !== null && (await findIssuer(db, issuer)) === null)
        throw invalid('/issuer', 'is not the short name of a registered issuer', 'body')
      const known = await findWebhook(db, name)
      if (known !== null && secret !== undefined)
        throw invalid('/secret', 'is only allowed for a new webhook: use rotate-secret to change it', 'body')
      const change = {
        name,
        settings: { url, types, issuer, enabled, allowedNetworks: allowed_networks },
        by: callerOf(request).name,
      }
      const changed = known === null ? null : await changeWebhook(db, change)
      if (changed !== null) return reply.code(200).send(webhookView(changed))
      const given = secret ?? newSecret()
      const created = await createWebhook(db, { ...change, sealedSecret: await sealSecret(given, name) })
      if (created !== null) return reply.code(201).send({ ...webhookView(created), secret: given })
      throw new ProblemError({
        status: 409,
        title: 'Webhook conflict',
        detail: `There are ${WEBHOOKS_MAX} webhooks, which is the limit, or another request created this one at the same time. Delete one, or send the request again.`,
      })
    },
  )

  server.get(
    '/v1/webhooks/:name',
    {
      config: ACCESS,
      schema: {
        operationId: 'getWebhook',
        tags: ['Webhooks'],
        summary: 'Get a webhook.',
        params: WebhookParams,
        response: { 200: Webhook },
      },
    },
    async ({ params: { name } }) => webhookView(foundOr404(await findWebhook(db, name), name)),
  )

  server.get(
    '/v1/webhooks',
    {
      config: ACCESS,
      schema: {
        operationId: 'listWebhooks',
        tags: ['Webhooks'],
        summary: 'List webhooks.',
        querystring: PageQuery,
        response: { 200: page(Webhook) },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query
      const { readCursor, pageOf } = pages(request)
      const webhooks = await listWebhooks(db, { after: readCursor(cursor) ?? '', limit: limit + 1 })
      return pageOf(webhooks, limit, ({ name }) => name, webhookView)
    },
  )

  server.delete(
    '/v1/webhooks/:name',
    {
      config: ACCESS,
      schema: {
        operationId: 'deleteWebhook',
        tags: ['Webhooks'],
        summary: 'Delete a webhook with its pending notifications.',
        params: WebhookParams,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      const { name } = request.params
      const deleted = await deleteWebhook(db, { name, by: callerOf(request).name })
      if (!deleted) throw notFound(name)
      return reply.code(204).send(null)
    },
  )

  server.post(
    '/v1/webhooks/:name/rotate-secret',
    {
      config: ACCESS,
      schema: {
        operationId: 'rotateWebhookSecret',
        tags: ['Webhooks'],
        summary: 'Change the secret of a webhook. The previous secret signs too for 24 hours.',
        params: WebhookParams,
        body: RotateSecretInput,
        response: { 200: Webhook },
      },
    },
    async (request) => {
      const { name } = request.params
      const { secret = newSecret() } = request.body
      checkSecret(secret)
      const rotated = await rotateWebhookSecret(db, {
        name,
        sealedSecret: await sealSecret(secret, name),
        overlapMs: OVERLAP_MS,
        by: callerOf(request).name,
      })
      return { ...webhookView(foundOr404(rotated, name)), secret }
    },
  )

  server.post(
    '/v1/webhooks/:name/test',
    {
      config: { ...ACCESS, cost: 5 },
      schema: {
        operationId: 'testWebhook',
        tags: ['Webhooks'],
        summary: 'Send a test notification (webhook.test) to a webhook.',
        params: WebhookParams,
        body: Type.Object({}, { title: 'SendTest' }),
        response: { 202: WebhookTest },
      },
    },
    async (request, reply) => {
      const { name } = request.params
      const test = foundOr404(await testWebhook(db, { name, by: callerOf(request).name }), name)
      if (test !== 'disabled')
        return reply.code(202).send({ id: test.id, links: { deliveries: deliveriesPath(name) } })
      throw new ProblemError({
        status: 409,
        title: 'Webhook disabled',
        detail: 'Curfew sends nothing to a disabled webhook. Put it again with enabled true.',
      })
    },
  )

  server.get(
    '/v1/webhooks/:name/deliveries',
    {
      config: ACCESS,
      schema: {
        operationId: 'listWebhookDeliveries',
        tags: ['Webhooks'],
        summary: 'List the sent and pending notifications of a webhook, the latest first.',
        params: WebhookParams,
        querystring: WebhookDeliveriesQuery,
        response: { 200: page(WebhookDelivery) },
      },
    },
    async (request) => {
      const { name } = request.params
      const { limit, cursor, state } = request.query
      const { readCursor, pageOf } = pages(request)
      const before = readCursor(cursor)
      if (before !== null && !/^\d{1,15}$/.test(before))
        throw invalid('/cursor', 'is not a cursor of this list')
      foundOr404(await findWebhook(db, name), name)
      const { rows, reached } = await listWebhookDeliveries(reads, {
        webhook: name,
        state: state ?? null,
        before: before === null ? null : Number(before),
        limit: limit + 1,
      })
      return pageOf(
        rows,
        limit,
        ({ position }) => String(position),
        deliveryView,
        reached === null ? null : String(reached),
      )
    },
  )
}

/** Checks the settings of a webhook. @throws a 400 problem with all faults. */
function checkInput(
  { url, allowed_networks = [], secret }: WebhookInput,
  { targetFault }: Pick<WebhooksDeps, 'targetFault'>,
): void {
  const faults: Fault[] = networkFaults(allowed_networks, '/allowed_networks')
  const fault =
    faults.length === 0
      ? targetFault(url, { allowedNetworks: null, grantedNetworks: allowed_networks })
      : null
  if (fault !== null) faults.push({ pointer: '/url', detail: fault })
  if (secret !== undefined) faults.push(...secretFaults(secret, '/secret'))
  if (faults.length > 0) throw faulty(faults)
}

function checkSecret(secret: string): void {
  const faults = secretFaults(secret, '/secret')
  if (faults.length > 0) throw faulty(faults)
}

function faulty(errors: readonly Fault[]): ProblemError {
  return new ProblemError({
    status: 400,
    title: 'Invalid webhook',
    detail: 'Nothing was changed. Correct the faults in errors and send the request again.',
    errors,
  })
}

function foundOr404<Found>(found: Found | null, name: string): Found {
  if (found !== null) return found
  throw notFound(name)
}

function notFound(name: string): ProblemError {
  return new ProblemError({
    status: 404,
    title: 'No such webhook',
    detail: `No webhook is registered as ${name}.`,
  })
}

const deliveriesPath = (name: string) => `/v1/webhooks/${name}/deliveries`

function webhookView(webhook: WebhookRecord): Webhook {
  return {
    name: webhook.name,
    url: webhook.url,
    types: webhook.types === null ? null : [...webhook.types],
    issuer: webhook.issuer,
    enabled: webhook.enabled,
    disabled_reason: webhook.disabledReason,
    allowed_networks: [...webhook.allowedNetworks],
    previous_secret_until: webhook.previousSecretUntil?.toISOString() ?? null,
    created_at: webhook.createdAt.toISOString(),
    updated_at: webhook.updatedAt.toISOString(),
    links: { self: `/v1/webhooks/${webhook.name}`, deliveries: deliveriesPath(webhook.name) },
  }
}

function deliveryView(delivery: WebhookDeliveryRecord): WebhookDelivery {
  return {
    id: delivery.id,
    type: delivery.type,
    state: delivery.state,
    attempts: delivery.attempts,
    created_at: delivery.createdAt.toISOString(),
    attempted_at: delivery.attemptedAt?.toISOString() ?? null,
    due_at: delivery.dueAt?.toISOString() ?? null,
    settled_at: delivery.settledAt?.toISOString() ?? null,
    status: delivery.status,
    error: delivery.error,
  }
}
