import { AuditEntry, PageQuery, page, type Scope } from '@curfew/contract'
import { type AuditRecord, type Database, listAudit } from '@curfew/ledger'
import type { HttpServer, RouteAccess } from '@curfew/runtime'
import type { Pages } from '../http/pages.ts'
import { invalid } from '../http/query.ts'

/** `/v1/audit`: the audit log of changes and replays. */
export function registerAudit(server: HttpServer, { db, pages }: { db: Database; pages: Pages }): void {
  server.get(
    '/v1/audit',
    {
      config: { scope: 'admin', access: 'unbound' } satisfies RouteAccess<Scope>,
      schema: {
        operationId: 'listAuditEntries',
        tags: ['Access'],
        summary: 'List the audit log of changes and replays, the latest entry first.',
        querystring: PageQuery,
        response: { 200: page(AuditEntry) },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query
      const { readCursor, pageOf } = pages(request)
      const before = readCursor(cursor)
      if (before !== null && !/^\d{1,15}$/.test(before))
        throw invalid('/cursor', 'is not a cursor of this list')
      const records = await listAudit(db, {
        before: before === null ? null : Number(before),
        limit: limit + 1,
      })
      return pageOf(records, limit, ({ id }) => String(id), auditView)
    },
  )
}

function auditView({ id, at, credential, credentialId, action, object, detail }: AuditRecord): AuditEntry {
  return { id, at: at.toISOString(), credential, credential_id: credentialId, action, object, detail }
}
