import { formOf } from './node.ts'
import type { LogoutReceiver } from './receiver.ts'

/** As Hono's `Context`. */
export interface HonoContextLike {
  readonly req: {
    readonly raw: Request
    parseBody(options: { all: true }): Promise<Record<string, unknown>>
  }
}

/** A handler for Hono, on any runtime: `app.all(path, honoLogoutHandler(receiver))`. */
export function honoLogoutHandler(receiver: LogoutReceiver): (context: HonoContextLike) => Promise<Response> {
  return async ({ req }) => {
    if (!req.raw.bodyUsed) return receiver.handle(req.raw)
    // A middleware was there before: Hono has kept what it read.
    const { method, url, headers } = req.raw
    const type = headers.get('content-type') ?? ''
    const body = formOf(await req.parseBody({ all: true }))
    return receiver.handle(new Request(url, { method, headers: { 'content-type': type }, body }))
  }
}
