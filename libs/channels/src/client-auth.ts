// HTTP Basic for OAuth clients, for all channels.

/** The encoding of a client's name and secret for HTTP Basic (RFC 6749 section 2.3.1). */
export function formEncoded(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1)
}

/** The credential of `Authorization: Basic` for a client. */
export function basicOf(clientId: string, secret: string): string {
  return Buffer.from(`${formEncoded(clientId)}:${formEncoded(secret)}`).toString('base64')
}
