import { text } from 'node:stream/consumers'
import { listen } from '../listener.ts'

/** One post of an IdP. */
export interface Post {
  /** The path, which names the issuer and the client. */
  readonly path: string
  readonly token: string
  /** The status that the IdP got; null if the connection ended without an answer. */
  readonly status: number | null
}

/** A reverse proxy in front of Curfew. It records which posts of an IdP were answered. */
export interface Tap {
  readonly url: string
  /** The answered posts and those that found no Curfew, in the order of their ends. */
  readonly posts: readonly Post[]
  close(): Promise<void>
}

/** @param target the URL of Curfew, which may be unavailable at any time. */
export async function openTap(target: string): Promise<Tap> {
  const listener = await listen()
  const posts: Post[] = []
  listener.serve(async (request, response) => {
    const path = request.url ?? ''
    const body = await text(request)
    const token = new URLSearchParams(body).get('logout_token') ?? ''
    try {
      const answer = await fetch(`${target}${path}`, {
        method: request.method ?? 'GET',
        headers: { 'content-type': request.headers['content-type'] ?? '' },
        body,
      })
      const answered = await answer.text()
      posts.push({ path, token, status: answer.status })
      response.writeHead(answer.status).end(answered)
    } catch {
      // Curfew is down: the IdP sees a connection that ends without an answer.
      posts.push({ path, token, status: null })
      request.socket.destroy()
    }
  })
  return { url: listener.url, posts, close: listener.close }
}
