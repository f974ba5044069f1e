import { createHash } from 'node:crypto'
import { Jwks } from '@curfew/contract'
import { type IssuerName, JWKS_MAX_AGE_MS } from '@curfew/domain'
import type { Database } from '@curfew/ledger'
import { type HttpServer, matchesEntityTag } from '@curfew/runtime'
import { Type } from 'typebox'
import { IssuerParams, issuerOr404 } from '../registry/issuers.ts'

export interface JwksDeps {
  readonly db: Database
  /** The public keys of an issuer as a JWK Set (RFC 7517). */
  jwks(issuer: IssuerName): Promise<Jwks>
}

/** The IdP may cache the key set, and merges it into its own `jwks_uri`, where RPs fetch it. */
const CACHE_CONTROL = `public, max-age=${JWKS_MAX_AGE_MS / 1_000}`

/** `GET /issuers/{issuer}/jwks.json`: the public key set, for the IdP to merge, and for RPs that trust Curfew directly. */
export function registerJwks(server: HttpServer, { db, jwks }: JwksDeps): void {
  server.get(
    '/issuers/:issuer/jwks.json',
    {
      // The console does not cache the key set, so a withdrawn key leaves it at once.
      config: { scope: 'public', load: 'read' },
      schema: {
        operationId: 'getJwks',
        tags: ['Signing keys'],
        summary: 'Get the public signing keys of an issuer (JWK Set).',
        params: IssuerParams,
        response: {
          200: Jwks,
          304: Type.Null({ description: 'The key set still has the entity tag in If-None-Match.' }),
        },
      },
    },
    async (request, reply) => {
      const { name } = await issuerOr404(db, request.params.issuer)
      const keySet = await jwks(name)
      const etag = `"${createHash('sha256').update(JSON.stringify(keySet)).digest('base64url')}"`
      reply.header('cache-control', CACHE_CONTROL).header('etag', etag)
      if (matchesEntityTag(request.headers['if-none-match'], etag)) return reply.code(304).send(null)
      return keySet
    },
  )
}
