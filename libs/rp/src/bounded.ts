/** The input has more bytes than the limit. The rest of it was not read. */
export class TooLargeError extends Error {
  override name = 'TooLargeError'
}

/**
 * Reads chunks as UTF-8 text, up to `bytesMax` bytes.
 *
 * @throws {TooLargeError} if there are more bytes.
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

/** Iterates over the chunks of a body. Not every runtime makes a `ReadableStream` iterable. */
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
    // Release the unread rest. A stream that has failed already cannot be cancelled, which does no harm.
    reader.cancel().catch(() => undefined)
  }
}
