import { createHash } from 'node:crypto'
import { Jwks } from '@curfew/contract'
import { type IssuerName, JWKS_MAX_AGE_MS } from '@curfew/domain'
import type { Database } from '@curfew/ledger'
import { type HttpServer, namesTag } from '@curfew/runtime'
import { Type } from 'typebox'
import { IssuerParams, issuerOr404 } from '../registry/issuers.ts'

export interface JwksDeps {
  readonly db: Database
  /** Public keys of an issuer, as RFC 7517 writes them. */
  jwks(issuer: IssuerName): Promise<Jwks>
}

/** RPs ask the IdP, which merges it into its own `jwks_uri`. */
const CACHE_CONTROL = `public, max-age=${JWKS_MAX_AGE_MS / 1_000}`

/** `GET /issuers/{issuer}/jwks.json`: public, for the IdP to merge and for RPs that trust us directly. */
export function registerJwks(server: HttpServer, { db, jwks }: JwksDeps): void {
  server.get(
    '/issuers/:issuer/jwks.json',
    {
      // Public, and never of a cache of ours: a key that was withdrawn is out of it at once.
      config: { scope: 'public', load: 'read' },
      schema: {
        summary: 'Public signing keys of an issuer (JWK Set).',
        params: IssuerParams,
        response: {
          200: Jwks,
          304: Type.Null({ description: 'The copy that If-None-Match names is as it was.' }),
        },
      },
    },
    async (request, reply) => {
      const { name } = await issuerOr404(db, request.params.issuer)
      const keySet = await jwks(name)
      const etag = `"${createHash('sha256').update(JSON.stringify(keySet)).digest('base64url')}"`
      reply.header('cache-control', CACHE_CONTROL).header('etag', etag)
      if (namesTag(request.headers['if-none-match'], etag)) return reply.code(304).send(null)
      return keySet
    },
  )
}
