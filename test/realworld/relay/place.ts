import type { Client } from '@curfew/client'
import { freePort } from '../../../deploy/server/ports.ts'
import { type Processes, type Standalone, startStandalone } from '../../support/processes.ts'
import type { LoginIdp, PlainIdp } from '../idp.ts'
import { openTap, type Tap } from './tap.ts'

/** The first start makes a database cluster. A busy machine takes long for it. */
const START_TIMEOUT_MS = 90_000

/** `curfew up` in a process of its own at a port that it keeps, behind a proxy that records the posts of IdPs. */
export interface Place {
  /** Of the running process. */
  readonly client: Client
  readonly tap: Tap
  /** Sends SIGKILL to Curfew, and waits for its end. */
  kill(): Promise<void>
  /** Starts Curfew with the same data and at the same port. */
  start(): Promise<void>
  close(): Promise<void>
}

export async function openPlace(processes: Processes): Promise<Place> {
  const dataFolder = await processes.dataFolder()
  const port = await freePort()
  const env = {
    CURFEW_PORT: String(port),
    // The IdPs and the RPs of the tests are on this machine.
    CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8',
  }
  const start = (adminKey: string | null) =>
    startStandalone(processes, { dataFolder, env, adminKey, timeoutMs: START_TIMEOUT_MS })
  let running: Standalone = await start(null)
  const { adminKey } = running
  const tap = await openTap(`http://127.0.0.1:${port}`)
  return {
    get client() {
      return running.client
    },
    tap,
    kill: () => running.process.kill(),
    async start() {
      running = await start(adminKey)
    },
    close: tap.close,
  }
}

/** An IdP that joins by the relay. */
export type RelayedIdp = Omit<PlainIdp, 'lost'>

export interface RelayedOptions {
  /** The name of the issuer at Curfew. */
  readonly name: string
  /** Whether the IdP is older than errata 1: its tokens have no `exp` or no `typ`. */
  readonly lenient: boolean
}

/**
 * An IdP that joins Curfew by the relay: Curfew gets its signing keys, and each client's `backchannel_logout_uri` at the IdP is
 * the relay's address for that client. The client's own URI is registered at Curfew.
 */
export async function relayed(
  idp: RelayedIdp,
  place: Place,
  { name, lenient }: RelayedOptions,
): Promise<LoginIdp> {
  await place.client.putIssuer(name, {
    iss: idp.iss,
    ...(lenient && { lenient_logout_tokens: true }),
  })
  for (const jwk of await idp.privateKeys()) await place.client.addKey(name, { jwk, sign_from: 'now' })
  return {
    iss: idp.iss,
    logIn: idp.logIn,
    async register(metadata, settings) {
      const client = await idp.register(metadata)
      await place.client.putRelyingParty(name, client.client_id, {
        backchannel_logout_uri: String(metadata.backchannel_logout_uri),
        id_token_signed_response_alg: String(metadata.id_token_signed_response_alg) as 'RS256',
        ...(settings !== undefined && { curfew: settings }),
      })
      await idp.repoint(client.client_id, `${place.tap.url}/relay/${name}/${client.client_id}`)
      return client
    },
  }
}
