import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { createRevocations, type Revocations } from '@curfew/rs'
import { CompactSign, exportJWK, generateKeyPair, jwtVerify, SignJWT } from 'jose'
import { ISS } from '../load.ts'
import type { Row } from '../scenarios.ts'
import type { Settings } from '../turns.ts'

const ENTRIES = 1_000_000
const TURN_MS = 1_000
const MEGABYTE = 1_000_000

interface Snapshot {
  readonly jws: string
  readonly jwks: object
}

/** The snapshot of a feed with so many sessions, one of which is `sid`. */
async function makeSnapshot(entries: number, sid: string): Promise<Snapshot> {
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const nowS = Date.now() / 1_000
  const known = createHash('sha256').update(`${ISS}\0sid\0${sid}\0`).digest().subarray(0, 16)
  const keys = [known, ...Array.from({ length: entries - 1 }, () => randomBytes(16))]
  const claims = {
    ...{ iss: ISS, iat: nowS, after: null, seq: Math.floor(nowS * 1_000), as_of: nowS, max_staleness: 30 },
    ...{ max_token_ttl: 3_600, issuer_before: null },
    entries: keys.map((key) => [key.toString('base64url'), Math.floor(nowS)]),
  }
  const jws = await new CompactSign(Buffer.from(JSON.stringify(claims)))
    .setProtectedHeader({ alg: 'ES256', kid: 'k', typ: 'revocations+jwt' })
    .sign(privateKey)
  return { jws, jwks: { keys: [{ ...(await exportJWK(publicKey)), kid: 'k', alg: 'ES256' }] } }
}

/** Serves the snapshot and its keys, and no news. */
async function serve({ jws, jwks }: Snapshot): Promise<{ url: string; stop(): void }> {
  const server = createServer((request, response) => {
    if (request.url?.endsWith('/jwks.json')) response.end(JSON.stringify(jwks))
    else if (!request.url?.includes('after=')) response.end(jws)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/issuers/main/revocations`,
    stop() {
      server.closeAllConnections()
      server.close()
    },
  }
}

/** Processor time of this process, in milliseconds. Other processes of a shared machine change it less than wall time. */
function processorMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}

/** How often `act` completes in a second of processor time. @param batch the calls between two looks at the clock. */
async function rate(act: () => unknown, batch: number): Promise<number> {
  const startMs = processorMs()
  let count = 0
  for (; processorMs() - startMs < TURN_MS; count += batch)
    for (let call = 0; call < batch; call++) {
      const result = act()
      if (result instanceof Promise) await result
    }
  return count / ((processorMs() - startMs) / 1_000)
}

async function verifierOf(algorithm: string): Promise<() => Promise<unknown>> {
  const { publicKey, privateKey } = await generateKeyPair(algorithm)
  const token = await new SignJWT({ sub: randomUUID(), sid: randomUUID() })
    .setProtectedHeader({ alg: algorithm, typ: 'at+jwt' })
    .setIssuer(ISS)
    .setAudience('api')
    .setIssuedAt()
    .setExpirationTime('1h')
    .sign(privateKey)
  return () => jwtVerify(token, publicKey, { issuer: ISS, audience: 'api' })
}

/**
 * Checks tokens against a million logouts, beside the verification of the same tokens with jose, and loads the snapshot of a million
 * logouts over loopback.
 */
export async function resourceServer({ rounds, scale, progress }: Settings): Promise<readonly Row[]> {
  const entries = Math.max(1_000, Math.round(ENTRIES * scale))
  const sid = randomUUID()
  const snapshot = await makeSnapshot(entries, sid)
  const feed = await serve(snapshot)
  const verifiers = { RS256: await verifierOf('RS256'), ES256: await verifierOf('ES256') }
  const turns: { loadMs: number; heldMb: number; checks: number; RS256: number; ES256: number }[] = []
  try {
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      const startMs = processorMs()
      const revocations = createRevocations({
        feed: feed.url,
        issuer: ISS,
        key: 'cfw_bench',
        onEvent: () => undefined,
      })
      revocations.start()
      await revocations.ready()
      const loadMs = processorMs() - startMs
      const turn = {
        ...{
          loadMs,
          heldMb: revocations.status().bytes / MEGABYTE,
          checks: await checksOf(revocations, sid),
        },
        ...{ RS256: await rate(verifiers.RS256, 50), ES256: await rate(verifiers.ES256, 50) },
      }
      await revocations.stop()
      if (round > 0) turns.push(turn)
      progress(`round ${round} of ${rounds}: ${entries} logouts`)
    }
  } finally {
    feed.stop()
  }
  const checks = turns.map((turn) => turn.checks)
  const beside = (algorithm: 'RS256' | 'ES256') => ({
    what: `jose verifies ${algorithm}`,
    values: turns.map((turn) => turn[algorithm]),
  })
  return [
    {
      measured: `checks over ${entries} logouts, a processor second`,
      values: checks,
      beside: beside('RS256'),
    },
    {
      measured: `checks over ${entries} logouts, a processor second`,
      values: checks,
      beside: beside('ES256'),
    },
    {
      measured: 'snapshot: processor ms from the start until ready',
      values: turns.map(({ loadMs }) => loadMs),
      beside: null,
    },
    { measured: 'snapshot: MB held afterwards', values: turns.map(({ heldMb }) => heldMb), beside: null },
    { measured: 'snapshot: MB on the wire', values: [snapshot.jws.length / MEGABYTE], beside: null },
    { measured: 'snapshot: MB with gzip', values: [gzipSync(snapshot.jws).length / MEGABYTE], beside: null },
  ]
}

function checksOf(revocations: Revocations, sid: string): Promise<number> {
  const claims = { iss: ISS, sub: randomUUID(), sid: randomUUID(), iat: Math.floor(Date.now() / 1_000) }
  if (!revocations.isRevoked({ ...claims, sid })) throw new Error('a logout of the snapshot is not known')
  return rate(() => {
    if (revocations.isRevoked(claims)) throw new Error('a token without a logout was refused')
  }, 1_000)
}
