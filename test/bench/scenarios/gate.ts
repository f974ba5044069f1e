import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Agent, createServer, get } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createBearerTokens } from '@curfew/tokens'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { ISS } from '../load.ts'
import { PORT } from '../pipeline.ts'
import { cpuOf, openSubject, type Subject } from '../processes.ts'
import type { Row } from '../scenarios.ts'
import type { Settings } from '../turns.ts'

const ISSUER = 'bench'
const API = 'orders-api'
const AUDIENCE = 'https://orders.example'
const GATE_PORT = PORT + 1
const CONNECTIONS = 32
const TOKENS = 500

interface Issuer {
  readonly jwks: { readonly keys: readonly object[] }
  token(n: number): Promise<string>
}

/**
 * Compares the gate with a loop that verifies tokens and does nothing else, in turns. The gate is a process that reads the feed of a real
 * Curfew, and answers over HTTP.
 */
export async function gate(settings: Settings): Promise<readonly Row[]> {
  const { rounds, seconds, algorithm, progress } = settings
  const issuer = await openIssuer(algorithm)
  await using opening = new AsyncDisposableStack()
  const jwks = createServer((_request, response) => {
    response.end(JSON.stringify(issuer.jwks))
  }).listen(0, '127.0.0.1')
  await once(jwks, 'listening')
  opening.defer(() => void jwks.close())
  const subject = await openSubject(PORT, {})
  opening.defer(() => subject.stop())
  const pid = await startGate(subject, (jwks.address() as AddressInfo).port, opening)
  const repeated = await Promise.all(Array.from({ length: TOKENS }, (_, n) => issuer.token(n)))
  const turns = []
  for (let round = 0; round < rounds; round++) {
    // Each of them is seen once.
    const fresh = await Promise.all(Array.from({ length: seconds * 4_000 }, (_, n) => issuer.token(n)))
    progress(`gate, round ${round + 1} of ${rounds}`)
    const bare = await verifyFor(seconds, fresh, issuer)
    turns.push({
      bare,
      known: await askFor(seconds, pid, (n) => repeated[n % TOKENS]),
      first: await askFor(seconds, pid, (n) => fresh[n]),
    })
  }
  const beside = { what: 'a loop that verifies', values: turns.map(({ bare }) => bare.rate) }
  const besideCost = { what: 'one verification', values: turns.map(({ bare }) => bare.cpuMs * 1_000) }
  return [
    { measured: 'checks/s over HTTP, known tokens', values: turns.map(({ known }) => known.rate), beside },
    { measured: 'checks/s over HTTP, new tokens', values: turns.map(({ first }) => first.rate), beside },
    {
      measured: 'processor µs of the gate for a check, known token',
      values: turns.map(({ known }) => known.cpuMs * 1_000),
      beside: besideCost,
    },
    {
      measured: 'processor µs of the gate for a check, new token',
      values: turns.map(({ first }) => first.cpuMs * 1_000),
      beside: besideCost,
    },
  ]
}

async function openIssuer(algorithm: string): Promise<Issuer> {
  const { privateKey, publicKey } = await generateKeyPair(algorithm, { extractable: true })
  const nowS = Math.floor(Date.now() / 1_000)
  let made = 0
  return {
    jwks: { keys: [{ ...(await exportJWK(publicKey)), kid: 'one', alg: algorithm }] },
    token: (n) =>
      new SignJWT({ sub: `user-${n}`, sid: `session-${made++}`, scope: 'read' })
        .setProtectedHeader({ alg: algorithm, kid: 'one', typ: 'at+jwt' })
        .setIssuer(ISS)
        .setAudience(AUDIENCE)
        .setIssuedAt(nowS)
        .setExpirationTime(nowS + 3_600)
        .sign(privateKey),
  }
}

/** Starts `curfew gate`, as its users do, and waits until it is ready. @returns its process id. */
async function startGate(subject: Subject, jwksPort: number, opening: AsyncDisposableStack): Promise<number> {
  await subject.client.putIssuer(ISSUER, { iss: ISS })
  await subject.client.putRelyingParty(ISSUER, API, {
    client_name: 'Orders',
    curfew: { channels: { cutoff: {} } },
  } as never)
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('../../../services/gate/src/main.ts', import.meta.url))],
    {
      stdio: 'ignore',
      env: {
        ...process.env,
        CURFEW_GATE_FEED: `${subject.url}/v1/issuers/${ISSUER}/revocations`,
        CURFEW_GATE_KEY: subject.key,
        CURFEW_GATE_ISSUER: ISS,
        CURFEW_GATE_AUDIENCE: AUDIENCE,
        CURFEW_GATE_JWKS: `http://127.0.0.1:${jwksPort}/`,
        CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8',
        HOST: '127.0.0.1',
        PORT: String(GATE_PORT),
      },
    },
  )
  const end = () => child.kill('SIGKILL')
  process.once('exit', end)
  opening.defer(() => {
    end()
    process.removeListener('exit', end)
  })
  for (;;) {
    if (child.exitCode !== null) throw new Error('the gate has ended')
    const ready = await fetch(`http://127.0.0.1:${GATE_PORT}/readyz`).catch(() => null)
    await ready?.body?.cancel()
    if (ready?.status === 200) return child.pid ?? -1
    await sleep(50)
  }
}

interface Measured {
  readonly rate: number
  /** Processor time of one check, in milliseconds. */
  readonly cpuMs: number
}

async function verifyFor(seconds: number, tokens: readonly string[], { jwks }: Issuer): Promise<Measured> {
  const { verify } = createBearerTokens({
    rules: {
      ...{ issuer: ISS, audiences: [AUDIENCE], clockSkewS: 5, anyType: false, verify: 'signature' },
      algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA'],
    },
    fetchJwks: async () => ({ ok: true, value: jwks }),
    now: () => new Date(),
  })
  const [startedMs, before] = [performance.now(), process.cpuUsage()]
  let count = 0
  while (performance.now() - startedMs < seconds * 1_000) {
    if (!(await verify(tokens[count++ % tokens.length] ?? '')).ok) throw new Error('a token was refused')
  }
  const { user, system } = process.cpuUsage(before)
  return {
    rate: (count * 1_000) / (performance.now() - startedMs),
    cpuMs: (user + system) / 1_000 / count,
  }
}

/** Asks the gate over kept connections. @param tokenOf the token of the nth question; undefined ends the turn. */
async function askFor(
  seconds: number,
  pid: number,
  tokenOf: (n: number) => string | undefined,
): Promise<Measured> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })
  const startedMs = performance.now()
  const before = cpuOf(pid)?.node ?? Number.NaN
  let asked = 0
  const askOn = async () => {
    while (performance.now() - startedMs < seconds * 1_000) {
      const token = tokenOf(asked++)
      if (token === undefined) return
      const status = await ask(token, agent)
      if (status !== 200) throw new Error(`the gate answered ${status}`)
    }
  }
  await Promise.all(Array.from({ length: CONNECTIONS }, askOn))
  const rate = (asked * 1_000) / (performance.now() - startedMs)
  const cpuMs = ((cpuOf(pid)?.node ?? Number.NaN) - before) / asked
  agent.destroy()
  return { rate, cpuMs }
}

function ask(token: string, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    get(
      {
        ...{ agent, host: '127.0.0.1', port: GATE_PORT, path: '/check' },
        headers: { authorization: `Bearer ${token}` },
      },
      (response) => {
        response.resume().once('end', () => resolve(response.statusCode ?? 0))
      },
    ).once('error', reject)
  })
}
