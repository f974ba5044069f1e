import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLogoutReceiver, type LogoutReceiver } from '@curfew/rp'
import { nodeLogoutHandler } from '@curfew/rp/node'

/** A small relying party on loopback that receives logouts as a real one would. */
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

/** @param jwksUri where the issuer's public keys are; over plain http, on loopback. */
export async function openDemoRps({
  issuer,
  jwksUri,
}: {
  issuer: string
  jwksUri: string
}): Promise<DemoRp[]> {
  return Promise.all(
    MANNERS.map(async (manner) => {
      const server = createServer(nodeLogoutHandler(createDemoReceiver({ issuer, jwksUri }, manner)))
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
}

function createDemoReceiver(
  { issuer, jwksUri }: { issuer: string; jwksUri: string },
  { clientId, algorithm, delayMs, failures }: Manner,
): LogoutReceiver {
  const tries = new Map<string | null, number>()
  const receiver = createLogoutReceiver({
    issuer,
    clientId,
    jwksUri,
    algorithms: [algorithm],
    allowInsecureHttp: true,
    async onLogout({ eventId }) {
      await sleep(delayMs)
      const tried = (tries.get(eventId) ?? 0) + 1
      tries.set(eventId, tried)
      if (tried <= failures) throw new Error('the demo has this one fail')
    },
    // The table shows what fails.
    onError: () => undefined,
  })
  return {
    // As a gateway before an app that is away: after a 503 Curfew tries again at once.
    async handle(request) {
      const response = await receiver.handle(request)
      const failed = response.status === 400 && (await response.clone().text()).includes('logout_failed')
      return failed ? new Response(null, { status: 503 }) : response
    },
  }
}

async function close(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  server.close(() => resolve())
  server.closeAllConnections()
  await promise
}
