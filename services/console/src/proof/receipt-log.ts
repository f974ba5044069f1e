import { ConsistencyProof, InclusionProof, LogEntries, LogEntry, LogKeys, type Scope } from '@curfew/contract'
import { type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import { invalid } from '../http/query.ts'
import { type Entry, type LogReader, toBase64 } from './log-reader.ts'

const ENTRIES_MAX = 1_000
const Place = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

/** The receipt log has only digests, so every credential that may read the ledger may read all of it. */
const ACCESS: RouteAccess<Scope> = { scope: 'ledger:read', access: 'handler' }

/** `/v1/log/…`: the receipt log, with the proofs that entries are only ever added. */
export function registerReceiptLog(server: HttpServer, { reader }: { reader: LogReader }): void {
  server.get(
    '/v1/log/checkpoint',
    {
      config: ACCESS,
      schema: {
        operationId: 'getCheckpoint',
        tags: ['Receipts'],
        summary: 'Get the signed checkpoint of the receipt log (C2SP tlog-checkpoint).',
        produces: ['text/plain'],
        response: { 200: Type.String() },
      },
    },
    async (_request, reply) => {
      const checkpoint = await reader.checkpoint(await reader.head())
      return reply.type('text/plain; charset=utf-8').header('cache-control', 'no-cache').send(checkpoint)
    },
  )

  server.get(
    '/v1/log/keys',
    {
      config: { scope: 'public' },
      schema: {
        operationId: 'getLogKeys',
        tags: ['Receipts'],
        summary: 'Get the public keys of the receipt log, as a JWK Set and for witnesses.',
        response: { 200: LogKeys },
      },
    },
    () => keysOf(reader),
  )

  server.get(
    '/v1/log/entries',
    {
      config: ACCESS,
      schema: {
        operationId: 'listLogEntries',
        tags: ['Receipts'],
        summary:
          'List leaves of the receipt log, which are digests of receipts, from start to before end, at most 1,000.',
        querystring: Type.Object(
          { start: Type.Optional(Place), end: Type.Optional(Place) },
          { additionalProperties: false },
        ),
        response: { 200: LogEntries },
      },
    },
    async ({ query: { start = 0, end } }) => {
      if (end !== undefined && start > end) throw invalid('/start', 'must be at most end')
      const { size } = await reader.head()
      const to = Math.min(end ?? size, size, start + ENTRIES_MAX)
      return { items: (await reader.entries(start, to)).map(entryView), size }
    },
  )

  server.get(
    '/v1/log/entries/:index',
    {
      config: ACCESS,
      schema: {
        operationId: 'getLogEntry',
        tags: ['Receipts'],
        summary: 'Get one leaf of the receipt log.',
        params: Type.Object({ index: Place }),
        response: { 200: LogEntry },
      },
    },
    async ({ params: { index } }) => {
      const { size } = await reader.head()
      if (index >= size)
        throw new ProblemError({
          status: 404,
          title: 'No such entry',
          detail: `The receipt log has ${size} entries, counted from 0, so there is no entry ${index} yet.`,
        })
      const [entry] = await reader.entries(index, index + 1)
      if (entry === undefined) throw reader.altered(`entry ${index} is missing`)
      return entryView(entry)
    },
  )

  server.get(
    '/v1/log/proofs/inclusion',
    {
      config: ACCESS,
      schema: {
        operationId: 'getInclusionProof',
        tags: ['Receipts'],
        summary: 'Get the proof that a leaf is in the receipt log of a size (RFC 9162 section 2.1.3).',
        querystring: Type.Object(
          { index: Place, size: Type.Optional(Place) },
          { additionalProperties: false },
        ),
        response: { 200: InclusionProof },
      },
    },
    async ({ query: { index, size } }) => {
      const head = await reader.head()
      const of = size ?? head.size
      if (of > head.size) throw beyond('/size', head.size)
      if (index >= of) throw beyond('/index', of)
      const [entry] = await reader.entries(index, index + 1)
      if (entry === undefined) throw reader.altered(`entry ${index} is missing`)
      const proof = await reader.inclusion(index, of)
      return {
        index,
        size: of,
        leaf_hash: toBase64(entry.leafHash),
        root: toBase64(await reader.root(of)),
        proof: proof.map(toBase64),
      }
    },
  )

  server.get(
    '/v1/log/proofs/consistency',
    {
      config: ACCESS,
      schema: {
        operationId: 'getConsistencyProof',
        tags: ['Receipts'],
        summary:
          'Get the proof that the receipt log of one size begins with the log of a smaller size (RFC 9162 section 2.1.4).',
        querystring: Type.Object({ from: Place, to: Type.Optional(Place) }, { additionalProperties: false }),
        response: { 200: ConsistencyProof },
      },
    },
    async ({ query: { from, to } }) => {
      const { size } = await reader.head()
      const until = to ?? size
      if (until > size) throw beyond('/to', size)
      if (from > until) throw beyond('/from', until)
      const proof = await reader.consistency(from, until)
      return {
        from,
        to: until,
        from_root: toBase64(await reader.root(from)),
        to_root: toBase64(await reader.root(until)),
        proof: proof.map(toBase64),
      }
    },
  )
}

export async function keysOf(reader: LogReader): Promise<LogKeys> {
  const log = await reader.head()
  const { vkey } = await reader.signer(log)
  return { origin: log.origin, vkey, keys: [{ ...log.publicJwk, kid: log.kid }] }
}

export function entryView({ index, digest, leafHash }: Entry): LogEntry {
  return { index, digest: toBase64(digest), leaf_hash: toBase64(leafHash) }
}

function beyond(pointer: string, size: number) {
  return invalid(pointer, `is beyond the size, which is ${size}`)
}
