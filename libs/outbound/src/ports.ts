/** The first and the last of a range of TCP ports. */
export type PortRange = readonly [first: number, last: number]

/** The port that a URI leads to. @param port as a parsed URL has it: empty for the default of its scheme. */
export function portOf({ protocol, port }: { readonly protocol: string; readonly port: string }): number {
  if (port !== '') return Number(port)
  return protocol === 'https:' ? 443 : 80
}

/** @param ranges null allows every port. */
export function portAllowed(port: number, ranges: readonly PortRange[] | null): boolean {
  return ranges === null || ranges.some(([first, last]) => first <= port && port <= last)
}
