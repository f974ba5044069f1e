import { type Database, findRelyingParty } from '@curfew/ledger'
import { ProblemError } from '@curfew/runtime'
import { issuerOr404 } from '../registry/issuers.ts'
import { noSuchParty } from '../registry/relying-parties.ts'

/**
 * The 404 of a request without a set-up, or of an issuer or a relying party that is not registered.
 *
 * @param db null: the caller must not learn what is registered.
 * @param request.client null: the request is about every relying party of the issuer.
 * @param request.what the consequence, as a sentence.
 */
export async function noSetup(
  db: Database | null,
  {
    issuer,
    client,
    what,
  }: { readonly issuer: string; readonly client: string | null; readonly what?: string },
): Promise<ProblemError> {
  if (db !== null) {
    await issuerOr404(db, issuer)
    if (client !== null && (await findRelyingParty(db, { issuer, clientId: client })) === null)
      return noSuchParty({ issuer, client_id: client })
  }
  const parts = [
    `No logout audits are set up for ${client ?? 'any relying party'} at ${issuer}.`,
    ...(what === undefined ? [] : [what]),
    `Put a set-up first: curfew audit schedule ${client ?? 'CLIENT'} --issuer ${issuer} --file FILE.`,
  ]
  return new ProblemError({ status: 404, title: 'No audit set-up', detail: parts.join(' ') })
}
