import type { Socket } from 'node:net'

/** A longer interim answer is left to the parser, which refuses it. */
const HEAD_BYTES_MAX = 8 * 1024
const STATUS_LINE = 'HTTP/1.1 100'
const NOTHING = Buffer.alloc(0)

/**
 * Hides an unasked `100 Continue` from undici. A server may send it before its answer (RFC 9110 15.2.1), and curl and node:http
 * skip it. undici breaks the connection instead (nodejs/undici#197) and loses the answer.
 *
 * A written request opens the filter, and the first byte of another answer closes it. So undici sees every byte that arrives on
 * an idle connection, and drops that connection.
 */
export function skipUnaskedContinue(socket: Socket): void {
  const read: (size?: number) => Buffer | null = socket.read.bind(socket)
  const write = socket.write.bind(socket)
  let awaited = false
  let held: Buffer = NOTHING

  socket.write = ((...args: Parameters<Socket['write']>) => {
    awaited = true
    held = NOTHING
    return write(...args)
  }) as Socket['write']

  socket.read = (size?: number) => {
    // Node's streams read with a size, to fill their buffer.
    if (!awaited || size !== undefined) return read(size)
    for (let chunk = read(); chunk !== null; chunk = read()) {
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      let length = continueLength(held)
      while (length !== null && length > 0) {
        held = held.subarray(length)
        length = continueLength(held)
      }
      if (length === null) continue
      const answer = held
      awaited = false
      held = NOTHING
      return answer
    }
    return null
  }
}

/** The length of the `100 Continue` at the start of the bytes: 0 if another answer starts there, null if more bytes must decide. */
function continueLength(bytes: Buffer): number | null {
  const start = bytes.toString('latin1', 0, STATUS_LINE.length + 1)
  if (start.length <= STATUS_LINE.length) return STATUS_LINE.startsWith(start) ? null : 0
  if (start !== `${STATUS_LINE} ` && start !== `${STATUS_LINE}\r`) return 0
  const end = bytes.indexOf('\r\n\r\n')
  const head = bytes.toString('latin1', 0, end === -1 ? bytes.length : end)
  // A line that ends in a bare LF could hide where the head ends.
  if (head.length > HEAD_BYTES_MAX || /(?<!\r)\n/.test(head)) return 0
  return end === -1 ? null : end + 4
}
