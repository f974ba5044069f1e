import { type NodeHeaders, type NodeReadable, webRequest } from './node.ts'
import type { LogoutReceiver } from './receiver.ts'

/** The used members of `FastifyRequest`. */
export interface FastifyRequestLike {
  readonly method: string
  readonly headers: NodeHeaders
  readonly raw: NodeReadable
  readonly body: unknown
}

/** The used members of `FastifyReply`. */
export interface FastifyReplyLike {
  code(status: number): unknown
  headers(values: Record<string, string>): unknown
  send(payload?: string): unknown
}

/** The used members of `FastifyInstance`. */
export interface FastifyInstanceLike {
  removeAllContentTypeParsers(): unknown
  addContentTypeParser(
    type: string,
    parser: (
      request: unknown,
      payload: NodeReadable,
      done: (error: Error | null, body?: unknown) => void,
    ) => void,
  ): unknown
  all(
    path: string,
    handler: (request: FastifyRequestLike, reply: FastifyReplyLike) => Promise<unknown>,
  ): unknown
}

export interface FastifyLogoutOptions {
  readonly receiver: LogoutReceiver
  /** The path of the `backchannel_logout_uri`. Default `/backchannel-logout`. */
  readonly path?: string
}

/**
 * A plugin for Fastify 4 and 5: `app.register(fastifyLogout, { receiver })`. It does not change the body parsers of other routes.
 */
export async function fastifyLogout(
  instance: FastifyInstanceLike,
  { receiver, path = '/backchannel-logout' }: FastifyLogoutOptions,
): Promise<void> {
  // The receiver reads the body itself, and answers faults in the format of the specification.
  instance.removeAllContentTypeParsers()
  instance.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  instance.all(path, async ({ method, headers, raw, body }, reply) => {
    const stream = (body ?? raw) as NodeReadable
    const answer = await receiver.handle(webRequest({ method, headers, parsed: undefined, stream }))
    reply.code(answer.status)
    reply.headers(Object.fromEntries(answer.headers))
    return reply.send(await answer.text())
  })
}
