import { constants, createPrivateKey, type JsonWebKeyInput, type KeyObject, sign } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { SigningAlgorithm } from '@curfew/domain'

/** One request to a signer. */
export interface SignerCall {
  readonly target: string
  readonly headers: IncomingHttpHeaders
  readonly body: Readonly<Record<string, unknown>>
}

/** A signer on a real port. It has the private key, and signs every request. */
export interface HttpSigner extends AsyncDisposable {
  readonly url: string
  readonly calls: readonly SignerCall[]
  /** Answers with this status and no signature, until it is set to null. */
  fail(status: number | null): void
  /** Signs with this key from then on. */
  use(privateJwk: object): void
}

const PSS = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }

/** @param flavour `curfew`: our own protocol. `vault`: the transit engine of Vault. */
export async function openSigner(
  privateJwk: object,
  { algorithm, flavour }: { algorithm: SigningAlgorithm; flavour: 'curfew' | 'vault' },
): Promise<HttpSigner> {
  const calls: SignerCall[] = []
  let failing: number | null = null
  let key = open(privateJwk)
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = JSON.parse(Buffer.concat(chunks).toString('utf8')) as Record<string, unknown>
    calls.push({ target: request.url ?? '', headers: request.headers, body })
    if (failing !== null) {
      response.writeHead(failing).end()
      return
    }
    const input = Buffer.from(String(body.input), flavour === 'vault' ? 'base64' : 'base64url')
    const signature = signatureOf(key, algorithm, input).toString('base64url')
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(
      JSON.stringify(flavour === 'vault' ? { data: { signature: `vault:v1:${signature}` } } : { signature }),
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}${flavour === 'vault' ? '/v1/transit/sign/idp' : '/sign'}`,
    calls,
    fail(status) {
      failing = status
    },
    use(jwk) {
      key = open(jwk)
    },
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
    },
  }
}

function open(jwk: object): KeyObject {
  return createPrivateKey({ key: jwk as JsonWebKeyInput['key'], format: 'jwk' })
}

function signatureOf(key: KeyObject, algorithm: SigningAlgorithm, input: Buffer): Buffer {
  if (algorithm === 'EdDSA') return sign(null, input, key)
  const hash = `sha${algorithm.slice(2)}`
  if (algorithm.startsWith('ES')) return sign(hash, input, { key, dsaEncoding: 'ieee-p1363' })
  return sign(hash, input, algorithm.startsWith('PS') ? { key, ...PSS } : key)
}
