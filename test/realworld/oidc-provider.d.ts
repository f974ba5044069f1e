/** What the tests use of oidc-provider, which brings no types. */
declare module 'oidc-provider' {
  import type { IncomingMessage, ServerResponse } from 'node:http'

  export class Provider {
    /** The request under way, wherever it is asked for. */
    static readonly ctx:
      | {
          readonly oidc: {
            readonly session: { readonly state?: { readonly clientId?: string } }
          }
        }
      | undefined
    constructor(issuer: string, configuration: Readonly<Record<string, unknown>>)
    readonly Client: {
      readonly prototype: {
        readonly clientId: string
        backchannelLogout(sub: string, sid: string): Promise<void>
      }
    }
    callback(): (request: IncomingMessage, response: ServerResponse) => void
    on(
      event: 'backchannel.error',
      listener: (ctx: unknown, error: Error, client: { readonly clientId: string }) => void,
    ): this
  }
}
