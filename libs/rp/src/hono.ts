import { formOf } from './node.ts'
import type { LogoutReceiver } from './receiver.ts'

/** The used members of Hono's `Context`. */
export interface HonoContextLike {
  readonly req: {
    readonly raw: Request
    parseBody(options: { all: true }): Promise<Record<string, unknown>>
  }
}

/** Creates a handler for Hono, on any runtime: `app.all(path, honoLogoutHandler(receiver))`. */
export function honoLogoutHandler(receiver: LogoutReceiver): (context: HonoContextLike) => Promise<Response> {
  return async ({ req }) => {
    if (!req.raw.bodyUsed) return receiver.handle(req.raw)
    // A middleware has read the body already. Hono keeps the content.
    const { method, url, headers } = req.raw
    const type = headers.get('content-type') ?? ''
    const body = formOf(await req.parseBody({ all: true }))
    return receiver.handle(new Request(url, { method, headers: { 'content-type': type }, body }))
  }
}
