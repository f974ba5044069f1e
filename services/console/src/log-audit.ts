import { type AuditedReceipt, LogAudit, type Scope } from '@curfew/client'
import { contradictions, type ReceiptClaims, receiptClaims, sameBytes } from '@curfew/domain'
import {
  type Database,
  findToday,
  listReceipts,
  type ReceiptLog,
  type StoredReceipt,
  type Unreceipted,
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

/** `GET /v1/log/audit`: entry by entry, whether receipts and ledger still say what the log was given. */
export function registerLogAudit(server: HttpServer, { db, reader, keeper }: LogAuditDeps): void {
  server.get(
    '/v1/log/audit',
    {
      config: { scope: 'ledger:read', reach: 'unbound' } satisfies RouteAccess<Scope>,
      schema: {
        summary:
          'Holds stored receipts against the log, and events, deliveries and attempts against the receipts.',
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
      const receipts = new Map(
        (await listReceipts(db, { from: start, to: end })).map((receipt) => [receipt.logIndex, receipt]),
      )
      const ids = [...new Set([...receipts.values()].map(({ eventId }) => eventId))]
      const today = new Map((await findToday(db, ids)).map((found) => [found.event.id, found]))
      const items: AuditedReceipt[] = []
      for (const entry of entries) {
        const receipt = receipts.get(entry.index)
        const now = receipt === undefined ? undefined : today.get(receipt.eventId)
        items.push({ ...entryView(entry), ...(await audited(entry, receipt, now, { log, keeper })) })
      }
      return { items, size: log.size }
    },
  )
}

type Findings = Pick<AuditedReceipt, 'event_id' | 'receipt' | 'ledger' | 'differences'>

async function audited(
  { digest }: Entry,
  receipt: StoredReceipt | undefined,
  today: Unreceipted | undefined,
  { log, keeper }: { log: ReceiptLog; keeper: Pick<LogKeeper, 'subjectHash'> },
): Promise<Findings> {
  if (receipt === undefined) return { event_id: null, receipt: 'gone', ledger: 'gone', differences: [] }
  const { eventId, payload, logIndex } = receipt
  const findings = { event_id: eventId, ledger: 'gone' as const, differences: [] }
  if (payload === null) return { ...findings, receipt: 'erased' }
  if (!sameBytes(digestOf(payload), digest)) return { ...findings, receipt: 'altered' }
  // What the digest stands for is what we wrote.
  const claims = JSON.parse(payload) as ReceiptClaims
  if (claims.event.id !== eventId || claims.log.index !== logIndex) return { ...findings, receipt: 'altered' }
  if (today === undefined) return { ...findings, receipt: 'intact' }
  const replays = claims.targets.reduce((sum, target) => sum + (target.replays ?? 0), 0)
  if (today.generation > replays) return { ...findings, receipt: 'intact', ledger: 'replayed' }
  const hashed = Object.keys(claims.event).some((member) => member.endsWith('_hmac'))
  const place = { ...claims.log, replaces: null, issuedAt: new Date(0), jti: claims.jti }
  const keyedHash = hashed ? (await keeper.subjectHash(log)).of(eventId) : null
  const withinMs = claims.sla?.within_ms ?? null
  const now = receiptClaims(today.event, today.targets, { place, withinMs, keyedHash })
  const differences = contradictions(claims, JSON.parse(JSON.stringify(now)) as ReceiptClaims)
  return {
    event_id: eventId,
    receipt: 'intact',
    ledger: differences.length === 0 ? 'agrees' : 'contradicts',
    differences: [...differences],
  }
}
