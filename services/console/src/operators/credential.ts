import { OwnCredential } from '@curfew/contract'
import { callerOf, type HttpServer, type RouteAccess } from '@curfew/runtime'

/** `/v1/credential`: the rights of the caller, so that a program can find the issuer that its key is bound to. */
export function registerCredential(server: HttpServer): void {
  server.get(
    '/v1/credential',
    {
      config: { scope: 'any', access: 'handler' } satisfies RouteAccess,
      schema: {
        operationId: 'getCredential',
        tags: ['Access'],
        summary: 'Get the name, the scopes and the bounds of the credential of this request.',
        response: { 200: OwnCredential },
      },
    },
    async (request): Promise<OwnCredential> => {
      const { name, scopes, access, expiresAt } = callerOf(request)
      return {
        name,
        scopes: [...scopes],
        issuer: access.kind === 'everything' ? null : access.issuer,
        iss: access.kind === 'everything' ? null : access.iss,
        clients: access.kind === 'clients' ? [...access.clients] : null,
        expires_at: expiresAt?.toISOString() ?? null,
      }
    },
  )
}
