import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLogoutReceiver, type LogoutReceiver } from '@curfew/rp'
import { nodeLogoutHandler } from '@curfew/rp/node'

/** A small relying party on loopback that receives logouts like a real one. */
export interface DemoRp {
  readonly clientId: string
  readonly name: string
  readonly algorithm: string
  /** Its behaviour, described for the reader. */
  readonly behaviour: string
  readonly uri: string
  close(): Promise<void>
}

interface Behaviour {
  readonly clientId: string
  readonly name: string
  readonly algorithm: string
  readonly behaviour: string
  /** The time to end a session, in milliseconds. */
  readonly delayMs: number
  /** The number of failing tries at the start of an event. */
  readonly failures: number
}

const BEHAVIOURS: readonly Behaviour[] = [
  { clientId: 'mail', name: 'Mail', algorithm: 'ES256', behaviour: 'healthy', delayMs: 5, failures: 0 },
  { clientId: 'wiki', name: 'Wiki', algorithm: 'RS256', behaviour: 'slow', delayMs: 1_500, failures: 0 },
  {
    clientId: 'crm',
    name: 'CRM',
    algorithm: 'EdDSA',
    behaviour: 'fails its first two tries',
    delayMs: 5,
    failures: 2,
  },
]

/** Starts the demo relying parties. @param jwksUri the URI of the issuer's public keys, over plain HTTP on loopback. */
export async function openDemoRps({
  issuer,
  jwksUri,
}: {
  issuer: string
  jwksUri: string
}): Promise<DemoRp[]> {
  return Promise.all(
    BEHAVIOURS.map(async (behaviour) => {
      const server = createServer(nodeLogoutHandler(createDemoReceiver({ issuer, jwksUri }, behaviour)))
      server.listen(0, '127.0.0.1')
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      server.once('listening', resolve).once('error', reject)
      await promise
      const { port } = server.address() as AddressInfo
      const { clientId, name, algorithm } = behaviour
      const uri = `http://127.0.0.1:${port}/backchannel-logout`
      return { clientId, name, algorithm, behaviour: behaviour.behaviour, uri, close: () => close(server) }
    }),
  )
}

function createDemoReceiver(
  { issuer, jwksUri }: { issuer: string; jwksUri: string },
  { clientId, algorithm, delayMs, failures }: Behaviour,
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
      if (tried <= failures) throw new Error('the demo makes this try fail')
    },
    // The table shows failures.
    onError: () => undefined,
  })
  return {
    // Answers like a gateway in front of an unavailable application: Curfew retries quickly after a 503.
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
