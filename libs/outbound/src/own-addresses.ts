import { BlockList, isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { type Lookup, systemLookup } from './lookup.ts'
import { portOf } from './ports.ts'

/** A host and port of this deployment. */
interface Place {
  readonly host: string
  readonly port: number
}

/** The addresses of this deployment itself. They never receive a request, whatever networks are allowed. */
export interface OwnAddresses {
  /** Adds a listening socket of this process. */
  listens(place: { readonly address: string; readonly port: number }): void
  /**
   * Whether a URL names this deployment: the host and port of one of its services, or the public URL with every path under it. A
   * service under another name is recognised only by its addresses.
   */
  named(url: URL): boolean
  /** Whether this deployment uses the port somewhere, so that addresses must be checked. */
  guards(port: number): boolean
  /** Looks up the addresses of the services with this port if they are older than half a minute. Never rejects. */
  refresh(port: number): Promise<void>
  /** Whether an address and port belong to this deployment. */
  has(address: string, port: number): boolean
}

export interface OwnAddressesOptions {
  readonly databaseUrl?: string | null
  /** Kafka brokers, each `host:port`. */
  readonly brokers?: readonly string[]
  /**
   * Compared only by name: a proxy in front of this deployment may serve relying parties at the same address. If the URL has a path,
   * other paths of its host belong to others.
   */
  readonly publicUrl?: string | null
  readonly lookup?: Lookup
  /** The addresses of this machine. Default: its current ones. */
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
  const publicPlace = placesOf(publicUrl, null)[0] ?? null
  const publicPath = segmentsOf(URL.parse(publicUrl ?? '')?.pathname ?? '')
  const listeners: Place[] = []
  const resolved = new Map<string, { addresses: readonly string[]; lookedUpMs: number }>()

  function find(host: string): Promise<void> {
    const known = resolved.get(host)
    if (isIP(host) !== 0 || (known !== undefined && monotonicMs() - known.lookedUpMs < FRESH_MS))
      return Promise.resolve()
    return new Promise((resolve) => {
      lookup(host, (error, found) => {
        // The last known addresses stay if the name server does not answer.
        const addresses = error === null ? found.map(({ address }) => address) : (known?.addresses ?? [])
        resolved.set(host, { addresses, lookedUpMs: monotonicMs() })
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
    named(url) {
      const [host, port] = [plain(url.hostname), portOf(url)]
      const isAtPlace = (own: Place) => own.port === port && own.host === host
      if (services.some(isAtPlace)) return true
      if (publicPlace === null || !isAtPlace(publicPlace)) return false
      const path = segmentsOf(url.pathname)
      return publicPath.every((segment, index) => path[index] === segment)
    },
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
          // A service on this machine usually listens at each of the machine's addresses.
          .some((own) => isAt(own, address) || (isLocal(own) && isLocal(address)))
      )
    },
  }
}

const UNSPECIFIED = ['0.0.0.0', '::']

/** Whether an address equals or lies in one of `others`, IPv4-mapped forms included. @param others addresses and CIDRs. */
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

/** @param port the port of a URL without one; null: the default of its scheme. */
function placesOf(text: string | null, port: number | null): readonly Place[] {
  const url = text === null ? null : URL.parse(text)
  // A database URL that leads to a Unix socket has no host.
  if (url === null || url.hostname === '') return []
  const byScheme = url.protocol === 'http:' ? 80 : 443
  return [{ host: plain(url.hostname), port: url.port === '' ? (port ?? byScheme) : Number(url.port) }]
}

function brokerPlace(broker: string): readonly Place[] {
  const at = broker.lastIndexOf(':')
  return at <= 0 ? [] : [{ host: plain(broker.slice(0, at)), port: Number(broker.slice(at + 1)) }]
}

/** The segments of a path as a proxy may read them: percent-decoded, without empty ones and dot segments. */
function segmentsOf(path: string): readonly string[] {
  const segments: string[] = []
  for (const segment of decoded(path).split('/')) {
    if (segment === '..') segments.pop()
    else if (segment !== '' && segment !== '.') segments.push(segment)
  }
  return segments
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    // A malformed escape is not an escape.
    return path
  }
}

/** The reason of a refusal to dial an own address. @param place host and port, or a URL. */
export function ownAddress(place: string): string {
  return `${place} is an address of Curfew's own, where no relying party lives`
}

/** Normalises a host: lower case, no brackets, and no trailing dot. */
function plain(host: string): string {
  return host.toLowerCase().replace(/^\[|\]$|\.$/g, '')
}
