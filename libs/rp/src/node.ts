import type { LogoutReceiver } from './receiver.ts'

// The shapes of what Node.js and the frameworks on it hand over, as far as they are used: an app needs no types of a
// framework that it does not have.

/** As `stream.Readable`. */
export interface NodeReadable {
  readonly readableEnded?: boolean
  readonly destroyed?: boolean
  on(event: string, listener: (value: unknown) => void): unknown
}

/** As `http.IncomingMessage`; `body` is what a parser before us may have made of it. */
export interface NodeRequest extends NodeReadable {
  readonly method?: string | undefined
  readonly headers: NodeHeaders
  readonly body?: unknown
}

export interface NodeHeaders {
  readonly 'content-type'?: string | undefined
  readonly 'content-length'?: string | undefined
}

/** As `http.ServerResponse`. */
export interface NodeResponse {
  writeHead(status: number, headers: Record<string, string>): unknown
  end(body?: string): unknown
}

/** A handler for `http.createServer`, and for every framework whose handlers take Node's own request and response. */
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
 * The request as the receiver takes it. Its path says nothing there, and of another method than POST nothing else counts.
 *
 * @param parsed what became of the body if a parser has read the stream.
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
  // Of a stream that has ended, or was cut off, nothing will be heard any more.
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

/** A form as it may have been before somebody parsed it: text, bytes, or fields of which some came more than once. */
export function formOf(parsed: unknown): string {
  if (typeof parsed === 'string') return parsed
  if (parsed instanceof Uint8Array) return new TextDecoder().decode(parsed)
  const form = new URLSearchParams()
  for (const [name, value] of Object.entries(parsed ?? {}))
    for (const one of [value].flat()) if (typeof one === 'string') form.append(name, one)
  return form.toString()
}

/** Nothing is read before it is asked for, and what is not wanted is let pass: to destroy it would cut off the answer, too. */
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
