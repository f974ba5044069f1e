import { hash } from 'node:crypto'
import { type AuditedReceipt, LogAudit, type Scope } from '@curfew/contract'
import {
  contradictions,
  eventIdOf,
  type GivenEventId,
  type Issuer,
  type ReceiptClaims,
  receiptClaims,
  sameBytes,
} from '@curfew/domain'
import {
  type Database,
  type EventToday,
  findToday,
  listReceipts,
  type ReceiptLog,
  type StoredReceipt,
} from '@curfew/ledger'
import type { HttpServer, RouteAccess } from '@curfew/runtime'
import type { LogKeeper } from '@curfew/tokens'
import { Type } from 'typebox'
import { digestOf, type Entry, type LogReader } from './log-reader.ts'
import { entryView } from './receipt-log.ts'

export interface LogAuditDeps {
  readonly db: Database
  readonly reader: LogReader
  readonly keeper: Pick<LogKeeper, 'subjectHash'>
}

const AUDIT_MAX = 500

/** `GET /v1/log/audit`: compares each entry of the receipt log with its receipt, and the receipt with the ledger. */
export function registerLogAudit(server: HttpServer, { db, reader, keeper }: LogAuditDeps): void {
  server.get(
    '/v1/log/audit',
    {
      config: { scope: 'ledger:read', access: 'unbound', cost: 50 } satisfies RouteAccess<Scope>,
      schema: {
        operationId: 'auditReceiptLog',
        tags: ['Receipts'],
        summary:
          'Compare the stored receipts with the receipt log, and events, deliveries and attempts with the receipts.',
        querystring: Type.Object(
          {
            start: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, default: 0 }),
            limit: Type.Integer({ minimum: 1, maximum: AUDIT_MAX, default: AUDIT_MAX }),
          },
          { additionalProperties: false },
        ),
        response: { 200: LogAudit },
      },
    },
    async ({ query: { start, limit } }) => {
      const log = await reader.head()
      const end = Math.min(log.size, start + limit)
      const entries = await reader.entries(start, end)
      const stored = await listReceipts(db, { from: start, to: end })
      const receipts = Map.groupBy(stored, ({ logIndex }) => logIndex)
      const eventIds = [...new Set(stored.map(({ eventId }) => eventId))]
      const events = await findToday(db, { eventIds, size: log.size })
      const today = new Map(events.map((found) => [found.event.id, found]))
      const items: AuditedReceipt[] = []
      for (const entry of entries) {
        const [receipt, ...others] = receipts.get(entry.index) ?? []
        const findings = await audited(entry, receipt, today.get(receipt?.eventId ?? ''), { log, keeper })
        // With two receipts for one index, at least one of them is not the logged one.
        items.push({ ...entryView(entry), ...findings, ...(others.length > 0 && { receipt: 'altered' }) })
      }
      return { items, size: log.size }
    },
  )
}

type Findings = Pick<AuditedReceipt, 'event_id' | 'receipt' | 'ledger' | 'differences'>

async function audited(
  { digest }: Entry,
  receipt: StoredReceipt | undefined,
  today: EventToday | undefined,
  { log, keeper }: { log: ReceiptLog; keeper: Pick<LogKeeper, 'subjectHash'> },
): Promise<Findings> {
  if (receipt === undefined) return { event_id: null, receipt: 'gone', ledger: 'gone', differences: [] }
  const { eventId, givenId, payload, logIndex } = receipt
  const findings = { event_id: givenId, ledger: 'gone' as const, differences: [] }
  // The text of a receipt is erased with its subject, or after its event was deleted.
  const ofAnother = today !== undefined && isPostedAgain(receipt.plannedAt, today)
  if (payload === null)
    return { ...findings, receipt: today === undefined || today.erased || ofAnother ? 'erased' : 'altered' }
  if (!sameBytes(digestOf(payload), digest)) return { ...findings, receipt: 'altered' }
  // The digest matches, so Curfew itself wrote the payload.
  const claims = JSON.parse(payload) as ReceiptClaims
  if (!isOf(claims.event, receipt) || claims.log.index !== logIndex)
    return { ...findings, receipt: 'altered' }
  // The digest protects only the payload. The other columns, which decide the latest receipt, are compared with it.
  const revision = claims.targets.reduce((sum, { replays = 0 }) => sum + replays, claims.targets.length)
  const matchesRow =
    receipt.revision === revision && receipt.plannedAt.toISOString() === claims.event.planned_at
  if (!matchesRow) return { ...findings, receipt: 'altered' }
  if (today === undefined || ofAnother) return { ...findings, receipt: 'intact' }
  const outdated = revision < (today.latestRevision ?? 0) || (revision < today.revision && today.changing)
  const hashed = Object.keys(claims.event).some((member) => member.endsWith('_hmac'))
  const place = { ...claims.log, replaces: null, issuedAt: new Date(0), jti: claims.jti }
  const keyedHash = hashed ? (await keeper.subjectHash(log)).of(eventId) : null
  const withinMs = claims.sla?.within_ms ?? null
  const now = receiptClaims(today.event, today.targets, { place, withinMs, keyedHash })
  const differences = [
    ...contradictions(claims, JSON.parse(JSON.stringify(now)) as ReceiptClaims, outdated),
    ...(today.attemptsDiffer && !outdated ? ['its attempts contradict its deliveries'] : []),
  ]
  return {
    event_id: givenId,
    receipt: 'intact',
    ledger: differences.length > 0 ? 'contradicts' : outdated ? 'outdated' : 'agrees',
    differences,
  }
}

/** Whether a stored receipt belongs to the event that its payload names. */
function isOf({ iss, id }: ReceiptClaims['event'], { eventId, givenId }: StoredReceipt): boolean {
  return (
    id === givenId && eventId === eventIdOf(iss as Issuer, id as GivenEventId, (text) => hash('sha256', text))
  )
}

/** Whether the event of a receipt was deleted and a new event has its id. The new event has its own receipt, or will get one. */
function isPostedAgain(plannedAt: Date, today: EventToday): boolean {
  return (
    plannedAt.getTime() !== today.event.plannedAt.getTime() &&
    (today.latestRevision !== null || today.changing)
  )
}
