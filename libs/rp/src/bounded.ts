/** What is over `bytesMax` is not read to its end. */
export class TooLargeError extends Error {
  override name = 'TooLargeError'
}

/**
 * Reads bytes as UTF-8 text, and no further than `bytesMax`.
 *
 * @throws {TooLargeError} when there are more.
 */
export async function readText(
  chunks: AsyncIterable<Uint8Array | string>,
  bytesMax: number,
): Promise<string> {
  const decoder = new TextDecoder()
  let bytes = 0
  let text = ''
  for await (const chunk of chunks) {
    bytes += chunk.length
    if (bytes > bytesMax) throw new TooLargeError(`more than ${bytesMax} bytes`)
    text += typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true })
  }
  return text + decoder.decode()
}

/** A body's chunks. Not every runtime can iterate a stream by itself. */
export async function* chunksOf(body: ReadableStream<Uint8Array> | null): AsyncGenerator<Uint8Array> {
  const reader = body?.getReader()
  if (reader === undefined) return
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      yield value
    }
  } finally {
    // What is left unread is of no use to anybody; that it cannot be cancelled any more changes nothing.
    reader.cancel().catch(() => undefined)
  }
}
