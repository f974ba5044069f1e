import { IssuerQuery, ReceiptBundle, type Scope } from '@curfew/contract'
import { type AccessFilter, admits, sameBytes } from '@curfew/domain'
import {
  type Database,
  type FoundEvent,
  findEvents,
  findReceipt,
  isReceiptAwaited,
  type StoredReceipt,
} from '@curfew/ledger'
import { callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import type { LogKeeper } from '@curfew/tokens'
import { Type } from 'typebox'
import { invalid, UUID } from '../http/query.ts'
import { type IdentityDeps, identifyReceipted } from '../logouts/event-identity.ts'
import { digestOf, type LogReader, toBase64 } from './log-reader.ts'
import { keysOf } from './receipt-log.ts'

export interface ReceiptsDeps extends IdentityDeps {
  readonly keeper: Pick<LogKeeper, 'subjectHash'>
  readonly reader: LogReader
}

const JOSE = 'application/jose'
const Place = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

/** `GET /v1/logout-events/{id}/receipt`: proof of what became of an event; alone, or with all that it is checked by. */
export function registerReceipts(server: HttpServer, deps: ReceiptsDeps): void {
  const { keeper, reader } = deps
  server.get(
    '/v1/logout-events/:id/receipt',
    {
      config: { scope: 'events:read', access: 'handler' } satisfies RouteAccess<Scope>,
      schema: {
        summary:
          'The receipt of a settled event, a JWS. With Accept: application/json also the checkpoint and proofs to check it by.',
        params: Type.Object({ id: Type.String({ maxLength: 64 }) }),
        querystring: Type.Object(
          {
            ...IssuerQuery.properties,
            index: Type.Optional({
              ...Place,
              description: 'An earlier receipt of the event, by its place in the log.',
            }),
            from: Type.Optional({
              ...Place,
              description: 'Prove also that the log begins with the log of this size. With JSON only.',
            }),
            subject_key: Type.Optional(
              Type.Boolean({
                description:
                  'With JSON only: the key that whoever it names is hashed with, to show whom it is of.',
              }),
            ),
          },
          { additionalProperties: false },
        ),
        response: {
          200: {
            description: 'The receipt.',
            content: { [JOSE]: { schema: Type.String() }, 'application/json': { schema: ReceiptBundle } },
          },
        },
      },
    },
    async (request, reply) => {
      const { index = null, issuer } = request.query
      const id = request.params.id.toLowerCase()
      const receipt = await receiptOf(deps, { id, issuer, access: callerOf(request).access }, index)
      if (receipt.payload === null) throw erased(receipt)
      const bundle = request.headers.accept?.includes('application/json') === true
      const { jws, inclusion, log } = await signed(reader, receipt.payload, receipt)
      if (!bundle) return reply.type(JOSE).send(jws)
      const { from } = request.query
      if (from !== undefined && from > log.size)
        throw invalid('/from', `is beyond the size of the log, which is ${log.size}`)
      return {
        receipt: jws,
        index: receipt.logIndex,
        checkpoint: await reader.checkpoint(log),
        inclusion_proof: inclusion.map(toBase64),
        ...(from !== undefined && {
          consistency_proof: { from, hashes: (await reader.consistency(from, log.size)).map(toBase64) },
        }),
        keys: await keysOf(reader),
        ...(request.query.subject_key === true && {
          subject_key: (await keeper.subjectHash(log)).keyOf(receipt.eventId),
        }),
      }
    },
  )
}

/** Signs a stored receipt, if it is the one that the log has the digest of. */
async function signed(reader: LogReader, payload: string, { logIndex, givenId }: StoredReceipt) {
  const log = await reader.head()
  if (logIndex >= log.size) throw reader.altered(`the log has no entry ${logIndex}`)
  const [entry] = await reader.entries(logIndex, logIndex + 1)
  if (entry === undefined || !sameBytes(entry.digest, digestOf(payload)))
    throw reader.altered(`the receipt of event ${givenId} is another than entry ${logIndex}`)
  const inclusion = await reader.inclusion(logIndex, log.size)
  return { jws: (await reader.signer(log)).signReceipt(payload), inclusion, log }
}

/** The receipt of an event, as far as the caller may see it. @throws why there is none: 404, 403, 409 or 410. */
async function receiptOf(
  deps: IdentityDeps,
  asked: { readonly id: string; readonly issuer: string | undefined; readonly access: AccessFilter },
  logIndex: number | null,
): Promise<StoredReceipt> {
  const { db } = deps
  const { id, access } = asked
  if (!UUID.test(id)) throw notFound(id, false)
  const meant = await identifyReceipted(deps, asked)
  if (meant === null) throw notFound(id, true)
  if (access.kind === 'clients') {
    const owed = (await eventOf(db, meant.id))?.deliveries.some((delivery) => admits(access, delivery))
    if (owed !== true) throw notFound(id, true)
    throw new ProblemError({
      status: 403,
      detail: 'A receipt names everybody who was told. This needs a credential that is not bound to clients.',
    })
  }
  const receipt = await findReceipt(db, { eventId: meant.id, logIndex })
  if (receipt !== null) return receipt
  if (logIndex !== null) {
    throw new ProblemError({
      status: 404,
      detail: `No receipt of event ${id} is at place ${logIndex} of the log.`,
    })
  }
  const found = await eventOf(db, meant.id)
  const running = found?.event.issuerLogout?.state === 'running'
  const open = running || found?.deliveries.some(({ settledAt }) => settledAt === null) === true
  if (!open && found !== null && !(await isReceiptAwaited(db, lastSettled(found)))) {
    const issued = await findReceipt(db, { eventId: meant.id, logIndex })
    if (issued !== null) return issued
    throw new ProblemError({
      status: 410,
      title: 'Gone',
      detail: `There is no receipt of event ${id} any more: it is too old to be kept, or somebody took it away.`,
    })
  }
  throw new ProblemError({
    status: 409,
    title: open ? 'Not settled' : 'Not receipted yet',
    detail: open
      ? 'Something of this event is under way still. Its receipt is issued when all is settled.'
      : 'This event is settled, and its receipt is being issued. Ask again in a moment.',
    headers: { 'retry-after': '1' },
  })
}

function lastSettled({ event, deliveries }: FoundEvent): Date {
  const times = deliveries.map(({ settledAt }) => settledAt?.getTime() ?? 0)
  return new Date(Math.max(...times, (event.issuerLogout?.endedAt ?? event.plannedAt).getTime()))
}

async function eventOf(db: Database, id: string) {
  const found = (await findEvents(db, { ids: [id], deliveriesMax: 1 })).get(id)
  // The first is always given whole.
  return found === undefined || found === 'later' ? null : found
}

function erased({ logIndex }: StoredReceipt): ProblemError {
  return new ProblemError({
    status: 410,
    title: 'Erased',
    detail: `This receipt was erased. Its digest stays in the log, at place ${logIndex}.`,
    extensions: { index: logIndex },
  })
}

function notFound(id: string, perhapsSoon: boolean): ProblemError {
  return new ProblemError({
    status: 404,
    title: 'No such event',
    detail: perhapsSoon
      ? `No event ${id} is in the ledger. If it was accepted a moment ago it will be: ask again.`
      : `${id.slice(0, 64)} is not the id of an event: ids are UUIDs.`,
    ...(perhapsSoon && { headers: { 'retry-after': '1' } }),
  })
}
