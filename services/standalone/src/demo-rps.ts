import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Jwks } from '@curfew/client'
import { verifyLogoutToken } from '@curfew/tokens'

/** A small relying party on loopback that checks each token as a real one would. */
export interface DemoRp {
  readonly clientId: string
  readonly name: string
  readonly algorithm: string
  /** How it behaves, for the reader. */
  readonly manner: string
  readonly uri: string
  close(): Promise<void>
}

interface Manner {
  readonly clientId: string
  readonly name: string
  readonly algorithm: string
  readonly manner: string
  /** Time it takes to end a session, in milliseconds. */
  readonly delayMs: number
  /** How many of an event's first tries it fails. */
  readonly failures: number
}

const MANNERS: readonly Manner[] = [
  { clientId: 'mail', name: 'Mail', algorithm: 'ES256', manner: 'healthy', delayMs: 5, failures: 0 },
  { clientId: 'wiki', name: 'Wiki', algorithm: 'RS256', manner: 'slow', delayMs: 1_500, failures: 0 },
  {
    clientId: 'crm',
    name: 'CRM',
    algorithm: 'EdDSA',
    manner: 'fails its first two tries',
    delayMs: 5,
    failures: 2,
  },
]

const BODY_BYTES_MAX = 64 * 1024

/** @param jwks fetches the issuer's public keys, as an RP does from its `jwks_uri`. */
export async function openDemoRps({
  issuer,
  jwks,
}: {
  issuer: string
  jwks: () => Promise<Jwks>
}): Promise<DemoRp[]> {
  return Promise.all(
    MANNERS.map(async (manner) => {
      const tries = new Map<string, number>()
      const server = createServer((request, response) => {
        respond(request, response, manner, tries).catch((error: unknown) => {
          response.writeHead(500).end(String(error))
        })
      })
      server.listen(0, '127.0.0.1')
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      server.once('listening', resolve).once('error', reject)
      await promise
      const { port } = server.address() as AddressInfo
      const { clientId, name, algorithm } = manner
      const uri = `http://127.0.0.1:${port}/backchannel-logout`
      return { clientId, name, algorithm, manner: manner.manner, uri, close: () => close(server) }
    }),
  )

  async function respond(
    request: IncomingMessage,
    response: ServerResponse,
    { clientId, algorithm, delayMs, failures }: Manner,
    tries: Map<string, number>,
  ): Promise<void> {
    const token = new URLSearchParams(await readBody(request)).get('logout_token')
    const verified = await verifyLogoutToken(token ?? '', {
      issuer,
      audience: clientId,
      algorithms: [algorithm],
      jwks: await jwks(),
      now: new Date(),
      requireType: true,
    })
    response.setHeader('cache-control', 'no-store')
    if (!verified.ok) {
      const { error, description } = verified
      response.writeHead(400, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ error, error_description: description }))
      return
    }
    await sleep(delayMs)
    const tried = (tries.get(verified.claims.txn) ?? 0) + 1
    tries.set(verified.claims.txn, tried)
    response.writeHead(tried <= failures ? 503 : 200).end()
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length
    if (bytes > BODY_BYTES_MAX) throw new Error('the body is too large')
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString('utf8')
}

async function close(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  server.close(() => resolve())
  server.closeAllConnections()
  await promise
}
