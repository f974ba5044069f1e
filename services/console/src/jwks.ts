import { Jwks } from '@curfew/client'
import type { IssuerName } from '@curfew/domain'
import type { Database } from '@curfew/ledger'
import type { HttpServer } from '@curfew/runtime'
import { IssuerParams, issuerOr404 } from './issuers.ts'

export interface JwksDeps {
  readonly db: Database
  /** Public keys of an issuer, as RFC 7517 writes them. */
  jwks(issuer: IssuerName): Promise<Jwks>
}

/** Seconds that the answer may be kept. RPs ask the IdP, which merges it into its own `jwks_uri`. */
const MAX_AGE_S = 300

/** `GET /issuers/{issuer}/jwks.json`: public, for the IdP to merge and for RPs that trust us directly. */
export function registerJwks(server: HttpServer, { db, jwks }: JwksDeps): void {
  server.get(
    '/issuers/:issuer/jwks.json',
    {
      config: { scope: 'public' },
      schema: {
        summary: 'Public signing keys of an issuer (JWK Set).',
        params: IssuerParams,
        response: { 200: Jwks },
      },
    },
    async (request, reply) => {
      const { name } = await issuerOr404(db, request.params.issuer)
      reply.header('cache-control', `public, max-age=${MAX_AGE_S}`)
      return jwks(name)
    },
  )
}
