/** The used part of oidc-provider, which has no types of its own. */
declare module 'oidc-provider' {
  import type { IncomingMessage, ServerResponse } from 'node:http'

  export class Provider {
    /** The current request (async context). */
    static readonly ctx:
      | {
          readonly oidc: {
            readonly session: { readonly state?: { readonly clientId?: string } }
          }
        }
      | undefined
    constructor(issuer: string, configuration: Readonly<Record<string, unknown>>)
    readonly issuer: string
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
