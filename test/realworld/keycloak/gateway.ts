import { text } from 'node:stream/consumers'
import { listen } from '../listener.ts'

/** One logout request of Keycloak to Curfew. */
export interface GatewayPost {
  readonly clientId: string
  readonly sid: string
  /** The status that Keycloak got; null if Curfew did not answer. */
  readonly status: number | null
}

/** A proxy between Keycloak and Curfew. It keeps its address when Curfew restarts, and shows which logouts Keycloak got a 200 for. */
export interface Gateway {
  readonly url: string
  readonly posts: readonly GatewayPost[]
  /** Sends later requests to this address of Curfew. */
  leadTo(curfewUrl: string): void
  close(): Promise<void>
}

export async function openGateway(): Promise<Gateway> {
  const listener = await listen()
  const posts: GatewayPost[] = []
  let target = ''
  listener.serve(async (incoming, outgoing) => {
    const body = await text(incoming)
    const token = new URLSearchParams(body).get('logout_token') ?? ''
    const payload = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8')
    const { aud, sid } = JSON.parse(payload) as { readonly aud: string; readonly sid: string }
    const answer = await fetch(`${target}${incoming.url}`, {
      method: 'POST',
      headers: { 'content-type': incoming.headers['content-type'] ?? '' },
      body,
    }).catch(() => null)
    posts.push({ clientId: aud, sid, status: answer?.status ?? null })
    if (answer === null) incoming.socket.destroy()
    else outgoing.writeHead(answer.status).end(await answer.text())
  })
  return {
    url: listener.url,
    posts,
    leadTo(curfewUrl) {
      target = curfewUrl
    },
    close: listener.close,
  }
}
