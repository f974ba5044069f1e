import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose'
import { freePort } from '../../deploy/server/ports.ts'
import { type Curfew, eventually, ISS, ISSUER } from './curfew.ts'
import type { Processes, TestProcess } from './processes.ts'

// `curfew gate` as users start it: a process with settings in its environment.

/** The resource server that the gate stands for. */
export const API = 'orders-api'
export const AUDIENCE = 'https://orders.example'

export interface CurfewGate {
  readonly url: string
  readonly process: TestProcess
  /** Asks as a gateway. A `token` is sent as a bearer token. */
  ask(token: string | null, path?: string, init?: RequestInit): Promise<Response>
  ready(): Promise<void>
  /** The current value of a metric without labels. */
  metric(name: string): Promise<number>
}

/** Registers the resource server at Curfew. @returns the settings of a gate for it. */
export async function registerGate(
  curfew: Curfew,
  { iss = ISS, issuer = ISSUER }: { readonly iss?: string; readonly issuer?: string } = {},
): Promise<Readonly<Record<string, string>>> {
  await curfew.client.putRelyingParty(issuer, API, {
    client_name: 'Orders',
    curfew: { channels: { cutoff: {} } },
  } as never)
  const access = { kind: 'clients', issuer, iss, clients: new Set([API]) } as never
  return {
    CURFEW_GATE_FEED: `${curfew.url}/v1/issuers/${issuer}/revocations`,
    CURFEW_GATE_KEY: curfew.keyBoundTo(access, 'revocations:read'),
    CURFEW_GATE_ISSUER: iss,
    CURFEW_GATE_AUDIENCE: AUDIENCE,
    CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8',
  }
}

export async function startGate(
  processes: Processes,
  env: Readonly<Record<string, string>>,
): Promise<CurfewGate> {
  const port = Number(env.PORT ?? (await freePort()))
  const process = processes.start({
    ...{ name: 'gate', file: 'services/cli/src/main.ts', args: ['gate'] },
    env: { HOST: '127.0.0.1', ...env, PORT: String(port) },
  })
  const url = `http://127.0.0.1:${port}`
  await process.says(/"server\.listening"/)
  return {
    url,
    process,
    ask: (token, path = '/check', init = {}) =>
      fetch(`${url}${path}`, {
        ...init,
        headers: { ...(token !== null && { authorization: `Bearer ${token}` }), ...init.headers },
      }),
    async ready() {
      await eventually(async () => {
        const answer = await fetch(`${url}/readyz`)
        if (answer.status !== 200) throw new Error(await answer.text())
      })
    },
    async metric(name) {
      const text = await (await fetch(`${url}/metrics`)).text()
      return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
    },
  }
}

/** An issuer of access tokens, with its JWK Set on loopback. */
export interface TokenIssuer {
  readonly jwks: string
  readonly publicJwk: JWK
  /** Signs a valid access token, with these claims and header members changed. An undefined claim is left out. */
  token(
    claims?: Readonly<Record<string, unknown>>,
    header?: Readonly<Record<string, unknown>>,
  ): Promise<string>
  close(): Promise<void>
}

export async function openTokenIssuer(alg = 'ES256'): Promise<TokenIssuer> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  const publicJwk = { ...(await exportJWK(publicKey)), kid: 'one', alg }
  const server = createServer((_request, response) => {
    response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: [publicJwk] }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    jwks: `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`,
    publicJwk,
    token(claims = {}, header = {}) {
      const nowS = Math.floor(Date.now() / 1_000)
      const all = { iss: ISS, aud: AUDIENCE, sub: 'alice', iat: nowS, exp: nowS + 600, ...claims }
      const given = Object.entries(all).filter(([, value]) => value !== undefined)
      return new SignJWT(Object.fromEntries(given) as JWTPayload)
        .setProtectedHeader({ alg, kid: 'one', typ: 'at+jwt', ...header })
        .sign(privateKey)
    },
    async close() {
      server.close()
      server.closeAllConnections()
    },
  }
}
