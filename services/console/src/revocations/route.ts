import type { Scope } from '@curfew/contract'
import { type AccessFilter, admits, type BindingId, type IssuerName } from '@curfew/domain'
import { type Database, findFeedBindings, type IssuerRecord } from '@curfew/ledger'
import { callerOf, type HttpServer, matchesEntityTag, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import { IssuerParams, issuerOr404 } from '../registry/issuers.ts'
import type { Applied } from './applied.ts'
import type { NoSheet, Sheet, Sheets } from './sheets.ts'
import type { Watch } from './watch.ts'

const READ = { scope: 'revocations:read', access: 'handler', load: 'own' } satisfies RouteAccess<Scope>
const JWS = 'application/jose'
const WAIT_S_MAX = 30

const Query = Type.Object(
  {
    after: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        description:
          'The seq of the last answer that the reader has applied: the answer has what came after it. For a registered resource server, this acknowledges the logouts up to it.',
      }),
    ),
    wait: Type.Optional(
      Type.Integer({
        ...{ minimum: 0, maximum: WAIT_S_MAX, default: 0 },
        description:
          'Seconds to wait for a logout after `after`. Without one, the answer has no entries, and is as fresh.',
      }),
    ),
    reader: Type.Optional(
      Type.String({
        ...{ minLength: 1, maxLength: 128, pattern: '^[\\x21-\\x7e]+$' },
        description:
          'A name of this process, if several processes read for one resource server. A logout is acknowledged once all of them have applied it.',
      }),
    ),
    leaving: Type.Optional(
      Type.Boolean({
        description:
          'True: the reader stops, so that its resource server no longer waits for it. The answer is that of a last read.',
      }),
    ),
  },
  { additionalProperties: false },
)

export interface RevocationsDeps {
  readonly db: Database
  readonly sheets: Sheets
  readonly watch: Watch
  readonly applied: Applied
}

/** `GET /v1/issuers/{issuer}/revocations`: the cutoff feed of an issuer. */
export function registerRevocations(
  server: HttpServer,
  { db, sheets, watch, applied }: RevocationsDeps,
): void {
  server.get(
    '/v1/issuers/:issuer/revocations',
    {
      config: READ,
      schema: {
        operationId: 'getRevocations',
        tags: ['Resource servers'],
        summary:
          'Read the cutoff feed of an issuer: the logouts after which its access tokens are to be refused.',
        params: IssuerParams,
        querystring: Query,
        response: { 200: Type.String({ description: 'A compact JWS with the typ revocations+jwt.' }) },
      },
    },
    async (request, reply) => {
      const { after, wait = 0, reader = '', leaving = false } = request.query
      const { access } = callerOf(request)
      const note = async (bindings: readonly BindingId[], seq: number) => {
        for (const bindingId of bindings) await applied.note({ bindingId, reader, applied: seq })
      }
      const issuer = await readableIssuer(db, request.params.issuer, access)
      if (after === undefined) {
        const sheet = sheetOr(await sheets.snapshot(issuer), issuer, null)
        // It has applied nothing yet, and its resource server waits for it from now on.
        if (reader !== '') await note(await ownFeeds(db, issuer, access), 0)
        const etag = `"${sheet.seq}"`
        reply.header('etag', etag).header('cache-control', 'private, no-cache')
        if (matchesEntityTag(request.headers['if-none-match'], etag)) return reply.code(304 as 200).send('')
        return send(request, reply, sheet)
      }
      const first = sheetOr(await sheets.since(issuer, after), issuer, after)
      // Only now: a number that is not of this feed acknowledges nothing.
      const bindings = await ownFeeds(db, issuer, access)
      if (leaving) await applied.leave({ bindings, reader })
      else await note(bindings, after)
      reply.header('cache-control', 'no-store')
      if (first.seq > after || wait === 0 || leaving) return send(request, reply, first)
      const gone = new AbortController()
      request.raw.once('close', () => gone.abort())
      const seq = await watch.beyond({ iss: issuer.iss, after }, wait * 1_000, gone.signal)
      return send(request, reply, sheetOr(await sheets.since(issuer, after, seq), issuer, after))
    },
  )
}

/** Below it, compression saves no packet. */
const COMPRESSED_MIN = 10_000

async function send(
  { headers }: { readonly headers: { readonly 'accept-encoding'?: string | string[] | undefined } },
  reply: FeedReply,
  sheet: Sheet,
): Promise<never> {
  reply.type(JWS).header('vary', 'accept-encoding')
  const takesGzip = /\bgzip\b(?!;\s*q=0(\.0*)?\s*(,|$))/.test(String(headers['accept-encoding'] ?? ''))
  if (!takesGzip || sheet.jws.length < COMPRESSED_MIN) return reply.send(sheet.jws) as never
  return reply.header('content-encoding', 'gzip').send((await sheet.gzipped()) as never) as never
}

/** The part of a reply that an answer of the feed needs. */
interface FeedReply {
  type(media: string): FeedReply
  header(name: string, value: string): FeedReply
  send(body: string): unknown
}

/** The bindings that a reader acknowledges for: those of the clients that its credential is bound to. */
async function ownFeeds(db: Database, { name }: IssuerRecord, access: AccessFilter) {
  if (access.kind !== 'clients') return []
  return findFeedBindings(db, { issuer: name, clientIds: [...access.clients] })
}

/** @throws a 409, 410 or 503 problem if there is no answer. */
function sheetOr(sheet: Sheet | NoSheet, { name }: IssuerRecord, after: number | null): Sheet {
  if (typeof sheet === 'object') return sheet
  switch (sheet) {
    case 'snapshot':
      throw new ProblemError({
        status: 410,
        title: 'Snapshot needed',
        detail: `The feed of ${name} does not go on from ${after}. Read it without after, and go on from the seq of that answer.`,
      })
    case 'closed':
      throw new ProblemError({
        status: 409,
        title: 'No resource server',
        detail: `${name} has no resource server, so that its logouts are not kept for one. Register one: PUT /v1/issuers/${name}/resource-servers/{name}.`,
      })
    case 'filling':
      throw new ProblemError({
        status: 503,
        title: 'Feed not ready',
        detail: `The recent logouts of ${name} are being added to its new feed. Read it again in a moment.`,
        headers: { 'retry-after': '1' },
      })
  }
}

/** @throws a 404 problem, the same whether the issuer exists or not, if the credential belongs to another issuer. */
async function readableIssuer(db: Database, name: string, access: AccessFilter): Promise<IssuerRecord> {
  const ofIssuer =
    access.kind === 'clients'
      ? access.issuer === (name as IssuerName)
      : admits(access, { issuer: name, clientId: null })
  if (!ofIssuer)
    throw new ProblemError({ status: 404, detail: 'There is nothing here that this credential may see.' })
  return issuerOr404(db, name)
}
