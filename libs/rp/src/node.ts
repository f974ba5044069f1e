import type { LogoutReceiver } from './receiver.ts'

// Adapters for Node.js and its frameworks. The interfaces declare only the used members, so an app needs no types of frameworks
// that it does not use.

/** The used members of `stream.Readable`. */
export interface NodeReadable {
  readonly readableEnded?: boolean
  readonly destroyed?: boolean
  on(event: string, listener: (value: unknown) => void): unknown
}

/** The used members of `http.IncomingMessage`. `body` is the result of an earlier body parser, if there is one. */
export interface NodeRequest extends NodeReadable {
  readonly method?: string | undefined
  readonly headers: NodeHeaders
  readonly body?: unknown
}

export interface NodeHeaders {
  readonly 'content-type'?: string | undefined
  readonly 'content-length'?: string | undefined
}

/** The used members of `http.ServerResponse`. */
export interface NodeResponse {
  writeHead(status: number, headers: Record<string, string>): unknown
  end(body?: string): unknown
}

/** Creates a handler for `http.createServer`, and for every framework whose handlers take Node's request and response. */
export function nodeLogoutHandler(
  receiver: LogoutReceiver,
): (request: NodeRequest, response: NodeResponse) => Promise<void> {
  return async (request, response) => {
    const { method, headers, body } = request
    const answer = await receiver.handle(webRequest({ method, headers, parsed: body, stream: request }))
    const text = await answer.text()
    response.writeHead(answer.status, {
      ...Object.fromEntries(answer.headers),
      'content-length': String(text.length),
    })
    response.end(text)
  }
}

/**
 * Converts a request of Node.js for the receiver. The path is not used there. For a method other than POST nothing else is used.
 *
 * @param parsed the result of a body parser, if one has read the stream.
 */
export function webRequest({
  method,
  headers,
  parsed,
  stream,
}: {
  readonly method: string | undefined
  readonly headers: NodeHeaders
  readonly parsed: unknown
  readonly stream: NodeReadable
}): Request {
  const url = 'http://localhost/'
  if (method !== 'POST') return new Request(url)
  const { 'content-type': type = '', 'content-length': length } = headers
  // A stream that has ended or was cut off emits no more events.
  const wasRead = stream.readableEnded || stream.destroyed || hasToken(parsed)
  return new Request(url, {
    method,
    headers: { 'content-type': type, ...(!wasRead && length !== undefined && { 'content-length': length }) },
    body: wasRead ? formOf(parsed) : webStream(stream),
    duplex: 'half',
  })
}

function hasToken(body: unknown): boolean {
  return typeof body === 'object' && body !== null && Object.hasOwn(body, 'logout_token')
}

/** Converts the result of a body parser back to a form: a text, bytes, or fields, of which some may be repeated. */
export function formOf(parsed: unknown): string {
  if (typeof parsed === 'string') return parsed
  if (parsed instanceof Uint8Array) return new TextDecoder().decode(parsed)
  const form = new URLSearchParams()
  for (const [name, value] of Object.entries(parsed ?? {}))
    for (const item of [value].flat()) if (typeof item === 'string') form.append(name, item)
  return form.toString()
}

/**
 * Converts a Node stream to a web stream that reads only on demand. After a cancel it drops further chunks and does not destroy
 * the stream, because that would cut off the answer, too.
 */
function webStream(stream: NodeReadable): ReadableStream<Uint8Array> {
  let state: 'unread' | 'read' | 'over' = 'unread'
  const end = (finish: () => void) => {
    if (state !== 'over') finish()
    state = 'over'
  }
  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        if (state !== 'unread') return
        state = 'read'
        stream.on('data', (chunk) => {
          if (state === 'over') return
          controller.enqueue(
            typeof chunk === 'string' ? new TextEncoder().encode(chunk) : (chunk as Uint8Array),
          )
        })
        stream.on('end', () => end(() => controller.close()))
        stream.on('error', (error) => end(() => controller.error(error)))
        stream.on('close', () => end(() => controller.error(new Error('the request was cut off'))))
      },
      cancel() {
        state = 'over'
      },
    },
    { highWaterMark: 0 },
  )
}
