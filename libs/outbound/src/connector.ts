import type { LookupAddress } from 'node:dns'
import { isIP } from 'node:net'
import type { SecureContext } from 'node:tls'
import { buildConnector } from 'undici'
import { type AllowedNetworks, mayDial } from './addresses.ts'
import type { Lookup } from './lookup.ts'
import type { OwnAddresses } from './own-addresses.ts'
import { type PortRange, portAllowed, portOf } from './ports.ts'

/** The address is none that may be dialled. The message says why, for people. */
export class AddressNotAllowedError extends Error {}

export interface ConnectorOptions {
  readonly allowed: AllowedNetworks
  readonly lookup: Lookup
  readonly secureContext: SecureContext
  /** For name, connection and TLS handshake together, in milliseconds. */
  readonly connectTimeoutMs: number
  /** Null: every port. */
  readonly allowedPorts: readonly PortRange[] | null
  /** The addresses of this deployment, which are dialled never. */
  readonly own: OwnAddresses
  /** Told of each connection that stands: its origin, and the address at its other end. */
  readonly onConnected?: (origin: string, address: string) => void
}

/**
 * A connector for undici that dials only what may be dialled. It judges the addresses that a name was resolved to, hands
 * exactly those that passed to the socket, and looks at the other end once more when the connection stands: there is no
 * second resolution that could say otherwise (DNS rebinding).
 *
 * @throws nothing; its callback gets an {@link AddressNotAllowedError} for what may not be dialled.
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
    // undici's types leave out what it hands on to node:tls and node:net.
    return buildConnector(settings as buildConnector.BuildOptions)
  }
  const overTls = connectorWith(true)
  const plain = connectorWith(false)

  return (target, callback) => {
    const tls = target.protocol === 'https:'
    const refuse = (what: string) => callback(new AddressNotAllowedError(what), null)
    const port = portOf(target)
    if (!portAllowed(port, allowedPorts)) return refuse(`port ${port} is not an allowed port`)
    // No lookup happens for a literal address.
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
          return refuse(isOwn ? ownAddress(address, port) : notAllowed(address, tls))
        }
        onConnected?.(`${target.protocol}//${target.host}`, address)
        callback(...result)
      })
    if (own.named(literal, port)) return refuse(ownAddress(literal, port))
    if (!own.guards(port)) return dial()
    isOwnAddress(literal, port, { own, lookup }).then(
      (isOwn) => (isOwn ? refuse(ownAddress(literal, port)) : dial()),
      (error: unknown) => callback(error as Error, null),
    )
  }
}

/** Whether a host leads to this deployment. The name is looked up before it is dialled, so that not even a handshake reaches it. */
async function isOwnAddress(
  host: string,
  port: number,
  { own, lookup }: Pick<ConnectorOptions, 'own' | 'lookup'>,
): Promise<boolean> {
  await own.refresh(port)
  if (isIP(host) !== 0) return own.has(host, port)
  const { promise, resolve } = Promise.withResolvers<readonly LookupAddress[]>()
  // A name that cannot be resolved fails again as it is dialled, and with its reason.
  lookup(host, (error, addresses) => resolve(error === null ? addresses : []))
  return (await promise).some(({ address }) => own.has(address, port))
}

function ownAddress(host: string, port: number): string {
  return `${host}:${port} is an address of Curfew's own, which is no relying party`
}

/**
 * A lookup asked once for what several want to know at the same time: the system's has few threads, and a name server
 * that does not answer for one name would hold one of them for each who asks.
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

/** A `lookup` for node:net that leaves out what may not be dialled. */
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
    ? `${address} is not a public address and in no allowed network`
    : `${address} is in no allowed network, and only there may a token be sent without TLS`
}
