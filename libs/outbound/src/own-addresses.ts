import { BlockList, isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { type Lookup, systemLookup } from './lookup.ts'

/** A host and a port of this deployment. */
interface Place {
  readonly host: string
  readonly port: number
}

/** The addresses of this deployment itself. Nothing is ever sent to them, whatever networks are allowed. */
export interface OwnAddresses {
  /** A socket of this process listens there. */
  listens(place: { readonly address: string; readonly port: number }): void
  /** Whether a host, as a URI names it, and a port are this deployment's. A name of another spelling is seen by its addresses alone. */
  named(host: string, port: number): boolean
  /** Whether something of this deployment has this port, so that addresses must be looked at. */
  guards(port: number): boolean
  /** Looks up the addresses of services with this port, where they are older than half a minute. Never rejects. */
  refresh(port: number): Promise<void>
  /** Whether an address and a port are this deployment's. */
  has(address: string, port: number): boolean
}

export interface OwnAddressesOptions {
  readonly databaseUrl?: string | null
  /** Kafka brokers, each `host:port`. */
  readonly brokers?: readonly string[]
  /** Compared by name alone: a proxy before this deployment may well serve relying parties at the same address. */
  readonly publicUrl?: string | null
  readonly lookup?: Lookup
  /** The addresses of this machine. Default: those that it has now. */
  readonly localAddresses?: () => readonly string[]
  readonly monotonicMs?: () => number
}

const FRESH_MS = 30_000
const POSTGRES_PORT = 5_432

export function createOwnAddresses(options: OwnAddressesOptions = {}): OwnAddresses {
  const { databaseUrl = null, brokers = [], publicUrl = null } = options
  const { lookup = systemLookup, monotonicMs = () => performance.now() } = options
  const { localAddresses = addressesOfThisMachine } = options
  const services = [...placesOf(databaseUrl, POSTGRES_PORT), ...brokers.flatMap(brokerPlace)]
  const names = [...services, ...placesOf(publicUrl, null)]
  const listeners: Place[] = []
  const resolved = new Map<string, { addresses: readonly string[]; askedMs: number }>()

  function find(host: string): Promise<void> {
    const known = resolved.get(host)
    if (isIP(host) !== 0 || (known !== undefined && monotonicMs() - known.askedMs < FRESH_MS))
      return Promise.resolve()
    return new Promise((resolve) => {
      lookup(host, (error, found) => {
        // What was known stays where the name server does not answer.
        const addresses = error === null ? found.map(({ address }) => address) : (known?.addresses ?? [])
        resolved.set(host, { addresses, askedMs: monotonicMs() })
        resolve()
      })
    })
  }

  function isLocal(address: string): boolean {
    return isOneOf(address, ['127.0.0.0/8', '::1', '0.0.0.0', '::', ...localAddresses()])
  }

  function isAt(own: string, address: string): boolean {
    if (isOneOf(own, UNSPECIFIED)) return isLocal(address)
    // To dial 0.0.0.0 is to dial this machine.
    return isOneOf(address, [own]) || (isOneOf(address, UNSPECIFIED) && isLocal(own))
  }

  return {
    listens: ({ address, port }) => void listeners.push({ host: address, port }),
    named: (host, port) => names.some((own) => own.port === port && own.host === plain(host)),
    guards: (port) => [...listeners, ...services].some((own) => own.port === port),
    async refresh(port) {
      await Promise.all(services.filter((own) => own.port === port).map(({ host }) => find(host)))
    },
    has(address, port) {
      if (listeners.some((own) => own.port === port && isAt(own.host, address))) return true
      return (
        services
          .filter((own) => own.port === port)
          .flatMap(({ host }) => (isIP(host) === 0 ? (resolved.get(host)?.addresses ?? []) : [host]))
          // A service of this machine mostly listens at each of the machine's addresses.
          .some((own) => isAt(own, address) || (isLocal(own) && isLocal(address)))
      )
    },
  }
}

const UNSPECIFIED = ['0.0.0.0', '::']

/** Whether an address is one of others, IPv4-mapped names included. @param others addresses and CIDRs. */
function isOneOf(address: string, others: readonly string[]): boolean {
  const blocks = new BlockList()
  for (const other of others) {
    const [start = '', prefix] = other.split('/')
    const family = isIP(start) === 6 ? 'ipv6' : 'ipv4'
    if (prefix === undefined) blocks.addAddress(withoutZone(start), family)
    else blocks.addSubnet(start, Number(prefix), family)
  }
  const one = withoutZone(address)
  return isIP(one) !== 0 && blocks.check(one, isIP(one) === 6 ? 'ipv6' : 'ipv4')
}

function withoutZone(address: string): string {
  return address.split('%', 1)[0] ?? ''
}

function addressesOfThisMachine(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((all = []) => all.map(({ address }) => address))
}

/** @param port where the URL names none; null: its scheme's. */
function placesOf(text: string | null, port: number | null): readonly Place[] {
  const url = text === null ? null : URL.parse(text)
  // A database that is reached by a socket of the file system has no host.
  if (url === null || url.hostname === '') return []
  const byScheme = url.protocol === 'http:' ? 80 : 443
  return [{ host: plain(url.hostname), port: url.port === '' ? (port ?? byScheme) : Number(url.port) }]
}

function brokerPlace(broker: string): readonly Place[] {
  const at = broker.lastIndexOf(':')
  return at <= 0 ? [] : [{ host: plain(broker.slice(0, at)), port: Number(broker.slice(at + 1)) }]
}

/** A host as all of its spellings come to: in lower case, without brackets and without the dot at its end. */
function plain(host: string): string {
  return host.toLowerCase().replace(/^\[|\]$|\.$/g, '')
}
