import { Readable } from 'node:stream'
import type { IssuerName } from '@curfew/domain'
import { type Database, listRelyingParties } from '@curfew/ledger'
import { documentOf } from '../registry/party-view.ts'

export const NDJSON = 'application/x-ndjson'
/** Number of relying parties in one query. */
const PAGE = 500

/**
 * Exports the relying parties of an issuer in the format of the import: one line for each, with its `client_id` and without the
 * members that only answers have.
 *
 * @param only the client ids that the caller may see; null for all.
 */
export function exportOf(
  db: Database,
  { issuer, only }: { issuer: IssuerName; only: readonly string[] | null },
): Readable {
  async function* lines(): AsyncGenerator<string> {
    let after = ''
    for (;;) {
      const parties = await listRelyingParties(db, { issuer, after, limit: PAGE, only })
      const text = parties.map((party) => `${JSON.stringify(lineOf(party))}\n`).join('')
      if (text !== '') yield text
      after = parties.at(-1)?.clientId ?? ''
      if (parties.length < PAGE) return
    }
  }
  return Readable.from(lines())
}

function lineOf(party: Parameters<typeof documentOf>[0]): object {
  return { client_id: party.clientId, ...documentOf(party) }
}
