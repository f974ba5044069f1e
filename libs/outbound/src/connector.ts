import type { LookupAddress } from 'node:dns'
import { isIP } from 'node:net'
import type { SecureContext } from 'node:tls'
import { buildConnector } from 'undici'
import { type AllowedNetworks, mayDial } from './addresses.ts'
import type { Lookup } from './lookup.ts'
import { type OwnAddresses, ownAddress } from './own-addresses.ts'
import { type PortRange, portAllowed, portOf } from './ports.ts'
import { skipUnaskedContinue } from './unasked-continue.ts'

/** The address may not be dialled. The message says why, for people. */
export class AddressNotAllowedError extends Error {}

export interface ConnectorOptions {
  readonly allowed: AllowedNetworks
  readonly lookup: Lookup
  readonly secureContext: SecureContext
  /** For lookup, connection and TLS handshake together, in milliseconds. */
  readonly connectTimeoutMs: number
  /** Null allows every port. */
  readonly allowedPorts: readonly PortRange[] | null
  /** The addresses of this deployment, which are never dialled. The client has compared the names. */
  readonly own: OwnAddresses
  /** Called after each connection with its origin and the address of its peer. */
  readonly onConnected?: (origin: string, address: string) => void
}

/**
 * A connector for undici that dials only allowed addresses. It checks the addresses that a name resolves to, and hands only the
 * allowed ones to the socket. Once connected, it checks the peer's address again. No second resolution can give another answer
 * (DNS rebinding).
 *
 * @throws nothing; its callback gets an {@link AddressNotAllowedError} for an address that may not be dialled.
 */
export function createGuardedConnector(options: ConnectorOptions): buildConnector.connector {
  const { allowed, lookup, secureContext, connectTimeoutMs, allowedPorts, own, onConnected } = options
  const connectorWith = (tls: boolean) => {
    const settings = {
      timeout: connectTimeoutMs,
      allowH2: false,
      secureContext,
      lookup: guardedLookup(lookup, allowed, tls),
    }
    // undici's types omit the options that it passes on to node:tls and node:net.
    return buildConnector(settings as buildConnector.BuildOptions)
  }
  const overTls = connectorWith(true)
  const plain = connectorWith(false)

  return (target, callback) => {
    const tls = target.protocol === 'https:'
    const refuse = (why: string) => callback(new AddressNotAllowedError(why), null)
    const port = portOf(target)
    if (!portAllowed(port, allowedPorts)) return refuse(`port ${port} is not an allowed port`)
    // Node does not look up a literal address, so it is checked here.
    const literal = target.hostname.replace(/^\[|\]$/g, '')
    if (isIP(literal) !== 0 && !mayDial(literal, { allowed, tls })) return refuse(notAllowed(literal, tls))
    const connect = tls ? overTls : plain
    const dial = () =>
      connect(target, (...result) => {
        const [error, socket] = result
        if (error !== null || socket === null) return callback(...result)
        const address = socket.remoteAddress ?? 'an unknown address'
        const isOwn = own.guards(port) && own.has(address, port)
        if (isOwn || !mayDial(address, { allowed, tls })) {
          socket.destroy()
          return refuse(isOwn ? ownAddress(`${address}:${port}`) : notAllowed(address, tls))
        }
        onConnected?.(`${target.protocol}//${target.host}`, address)
        skipUnaskedContinue(socket)
        callback(...result)
      })
    if (!own.guards(port)) return dial()
    isOwnAddress(literal, port, { own, lookup }).then(
      (isOwn) => (isOwn ? refuse(ownAddress(`${literal}:${port}`)) : dial()),
      (error: unknown) => callback(error as Error, null),
    )
  }
}

/** Whether a host leads to this deployment. The name is looked up first, so that not even a handshake reaches our listeners. */
async function isOwnAddress(
  host: string,
  port: number,
  { own, lookup }: Pick<ConnectorOptions, 'own' | 'lookup'>,
): Promise<boolean> {
  await own.refresh(port)
  if (isIP(host) !== 0) return own.has(host, port)
  const { promise, resolve } = Promise.withResolvers<readonly LookupAddress[]>()
  // A name that does not resolve fails again when it is dialled, with its reason.
  lookup(host, (error, addresses) => resolve(error === null ? addresses : []))
  return (await promise).some(({ address }) => own.has(address, port))
}

/**
 * Shares one lookup among concurrent requests for the same name. The system's resolver has few threads. A name server that
 * does not answer would block one of them for each request.
 */
export function createSharedLookup(lookup: Lookup): Lookup {
  const waiting = new Map<string, Parameters<Lookup>[1][]>()
  return (hostname, callback) => {
    const known = waiting.get(hostname)
    if (known !== undefined) {
      known.push(callback)
      return
    }
    const callbacks = [callback]
    waiting.set(hostname, callbacks)
    lookup(hostname, (error, addresses) => {
      waiting.delete(hostname)
      for (const done of callbacks) done(error, addresses)
    })
  }
}

/** A `lookup` for node:net that drops the addresses that may not be dialled. */
function guardedLookup(lookup: Lookup, allowed: AllowedNetworks, tls: boolean) {
  return (
    hostname: string,
    { all }: { all?: boolean },
    callback: (error: Error | null, address: LookupAddress[] | string, family?: number) => void,
  ): void => {
    lookup(hostname, (error, addresses) => {
      if (error !== null) return callback(error, [])
      const kept = addresses.filter(({ address }) => mayDial(address, { allowed, tls }))
      const [first] = kept
      if (first === undefined) {
        const found = addresses.map(({ address }) => address).join(', ')
        return callback(new AddressNotAllowedError(notAllowed(`${hostname} (${found})`, tls)), [])
      }
      return all === true ? callback(null, kept) : callback(null, first.address, first.family)
    })
  }
}

function notAllowed(address: string, tls: boolean): string {
  return tls
    ? `${address} is neither a public address nor in an allowed network`
    : `${address} is in no allowed network, and requests without TLS may go only to allowed networks`
}
