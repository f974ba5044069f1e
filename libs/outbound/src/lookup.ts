import { lookup as dnsLookup, type LookupAddress } from 'node:dns'

/** Resolves a name to all its addresses. Tests replace the system's resolver. */
export type Lookup = (
  hostname: string,
  callback: (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void,
) => void

/** The system's resolver, with the hosts file and the other sources that this machine is set to. */
export const systemLookup: Lookup = (hostname, callback) => dnsLookup(hostname, { all: true }, callback)
