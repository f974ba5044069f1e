import type { Scope } from '@curfew/contract'
import { type AccessFilter, admits, type IssuerName } from '@curfew/domain'
import { type Database, findFeedBindings, type IssuerRecord } from '@curfew/ledger'
import { callerOf, type HttpServer, matchesEntityTag, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import { IssuerParams, issuerOr404 } from '../registry/issuers.ts'
import type { createApplied } from './applied.ts'
import type { Sheet, Sheets } from './sheets.ts'
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
  },
  { additionalProperties: false },
)

export interface RevocationsDeps {
  readonly db: Database
  readonly sheets: Sheets
  readonly watch: Watch
  readonly applied: ReturnType<typeof createApplied>
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
      const { after, wait = 0, reader = '' } = request.query
      const { access } = callerOf(request)
      const issuer = await readableIssuer(db, request.params.issuer, access)
      if (after === undefined) {
        const sheet = await sheets.snapshot(issuer)
        const etag = `"${sheet.seq}"`
        reply.header('etag', etag).header('cache-control', 'private, no-cache')
        if (matchesEntityTag(request.headers['if-none-match'], etag)) return reply.code(304 as 200).send('')
        return reply.type(JWS).send(sheet.jws)
      }
      const first = await sheetSince(sheets, issuer, after)
      // Only now: a number that is not of this feed acknowledges nothing.
      for (const bindingId of await ownFeeds(db, issuer, access)) {
        await applied.note({ bindingId, reader, applied: after })
      }
      reply.header('cache-control', 'no-store').type(JWS)
      if (first.seq > after || wait === 0) return reply.send(first.jws)
      const gone = new AbortController()
      request.raw.once('close', () => gone.abort())
      const seq = await watch.beyond({ iss: issuer.iss, after }, wait * 1_000, gone.signal)
      return reply.send((await sheetSince(sheets, issuer, after, seq)).jws)
    },
  )
}

/** The bindings that a reader acknowledges for: those of the clients that its credential is bound to. */
async function ownFeeds(db: Database, { name }: IssuerRecord, access: AccessFilter) {
  if (access.kind !== 'clients') return []
  return findFeedBindings(db, { issuer: name, clientIds: [...access.clients] })
}

async function sheetSince(sheets: Sheets, issuer: IssuerRecord, after: number, seq?: number): Promise<Sheet> {
  const sheet = await sheets.since(issuer, after, seq)
  if (sheet !== null) return sheet
  throw new ProblemError({
    status: 410,
    title: 'Snapshot needed',
    detail: `The feed of ${issuer.name} does not go on from ${after}. Read it without after, and go on from the seq of that answer.`,
  })
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
