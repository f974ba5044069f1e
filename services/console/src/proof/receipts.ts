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

/** `GET /v1/logout-events/{id}/receipt`: the receipt of an event, alone or with everything that an offline check needs. */
export function registerReceipts(server: HttpServer, deps: ReceiptsDeps): void {
  const { keeper, reader } = deps
  server.get(
    '/v1/logout-events/:id/receipt',
    {
      config: { scope: 'events:read', access: 'handler' } satisfies RouteAccess<Scope>,
      schema: {
        operationId: 'getReceipt',
        tags: ['Receipts'],
        summary:
          'Get the receipt of a settled event, a JWS. With Accept: application/json also the checkpoint and the proofs to verify it.',
        params: Type.Object({ id: Type.String({ maxLength: 64 }) }),
        querystring: Type.Object(
          {
            ...IssuerQuery.properties,
            index: Type.Optional({
              ...Place,
              description: 'Index in the receipt log of an earlier receipt of the event.',
            }),
            from: Type.Optional({
              ...Place,
              description:
                'Only with JSON: also prove that the receipt log begins with the log of this size.',
            }),
            subject_key: Type.Optional(
              Type.Boolean({
                description:
                  'Only with JSON: also return the key that the subject in the receipt is hashed with, to prove which subject it is.',
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

/** Signs a stored receipt if its digest is in the receipt log. */
async function signed(reader: LogReader, payload: string, { logIndex, givenId }: StoredReceipt) {
  const log = await reader.head()
  if (logIndex >= log.size) throw reader.altered(`the log has no entry ${logIndex}`)
  const [entry] = await reader.entries(logIndex, logIndex + 1)
  if (entry === undefined || !sameBytes(entry.digest, digestOf(payload)))
    throw reader.altered(`the receipt of event ${givenId} differs from entry ${logIndex}`)
  const inclusion = await reader.inclusion(logIndex, log.size)
  return { jws: (await reader.signer(log)).signReceipt(payload), inclusion, log }
}

/** The receipt of an event that the caller may see. @throws a 403, 404, 409 or 410 problem if there is none. */
async function receiptOf(
  deps: IdentityDeps,
  asked: { readonly id: string; readonly issuer: string | undefined; readonly access: AccessFilter },
  logIndex: number | null,
): Promise<StoredReceipt> {
  const { db } = deps
  const { id, access } = asked
  if (!UUID.test(id)) throw notFound(id, false)
  const identified = await identifyReceipted(deps, asked)
  if (identified === null) throw notFound(id, true)
  if (access.kind === 'clients') {
    const owed = (await eventOf(db, identified.id))?.deliveries.some((delivery) => admits(access, delivery))
    if (owed !== true) throw notFound(id, true)
    throw new ProblemError({
      status: 403,
      detail: 'A receipt names all notified relying parties. Use a credential that is not bound to clients.',
    })
  }
  const receipt = await findReceipt(db, { eventId: identified.id, logIndex })
  if (receipt !== null) return receipt
  if (logIndex !== null) {
    throw new ProblemError({
      status: 404,
      detail: `The receipt log has no receipt of event ${id} at index ${logIndex}.`,
    })
  }
  const found = await eventOf(db, identified.id)
  const running = found?.event.issuerLogout?.state === 'running'
  const open = running || found?.deliveries.some(({ settledAt }) => settledAt === null) === true
  if (!open && found !== null && !(await isReceiptAwaited(db, lastSettled(found)))) {
    const issued = await findReceipt(db, { eventId: identified.id, logIndex })
    if (issued !== null) return issued
    throw new ProblemError({
      status: 410,
      title: 'Gone',
      detail: `The receipt of event ${id} is gone: its retention has ended, or it was deleted from the ledger.`,
    })
  }
  throw new ProblemError({
    status: 409,
    title: open ? 'Not settled' : 'Not receipted yet',
    detail: open
      ? 'This event has unsettled deliveries. Its receipt is issued when all deliveries are settled.'
      : 'This event is settled, and its receipt is being issued. Send the request again in a moment.',
    headers: { 'retry-after': '1' },
  })
}

function lastSettled({ event, deliveries }: FoundEvent): Date {
  const times = deliveries.map(({ settledAt }) => settledAt?.getTime() ?? 0)
  return new Date(Math.max(...times, (event.issuerLogout?.endedAt ?? event.plannedAt).getTime()))
}

async function eventOf(db: Database, id: string) {
  const found = (await findEvents(db, { ids: [id], deliveriesMax: 1 })).get(id)
  // The first event is always returned complete.
  return found === undefined || found === 'later' ? null : found
}

function erased({ logIndex }: StoredReceipt): ProblemError {
  return new ProblemError({
    status: 410,
    title: 'Erased',
    detail: `This receipt was erased. Its digest stays in the receipt log, at index ${logIndex}.`,
    extensions: { index: logIndex },
  })
}

function notFound(id: string, perhapsSoon: boolean): ProblemError {
  return new ProblemError({
    status: 404,
    title: 'No such event',
    detail: perhapsSoon
      ? `No event ${id} is in the ledger. If it was accepted a moment ago, send the request again.`
      : `${id.slice(0, 64)} is not the id of an event: ids are UUIDs.`,
    ...(perhapsSoon && { headers: { 'retry-after': '1' } }),
  })
}
