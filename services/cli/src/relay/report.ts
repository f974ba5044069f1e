import { plain, table } from '../terminal/table.ts'
import type { Calls } from './calls.ts'
import type { Plan } from './plan.ts'

/** A plan for a person. */
export function planText({ direction, clients, leftOut }: Plan, calls: readonly Calls[]): string {
  if (clients.length === 0 && leftOut.length === 0)
    return 'No client has a logout URL at the IdP, so there is nothing to set there.\n'
  const whose = direction === 'relay' ? "the relay's" : "the relying party's own"
  const parts = [
    ...(clients.length === 0
      ? []
      : [
          `Set ${whose} URL as the backchannel_logout_uri of each client at the IdP:\n`,
          table([['CLIENT', 'URL'], ...clients.map(({ client_id, uri }) => [client_id, uri])]),
        ]),
    ...(leftOut.length === 0
      ? []
      : [
          'The relay cannot take the logout tokens of these clients. They keep their own URL at the IdP:\n',
          table([['CLIENT', 'WHY'], ...leftOut.map(({ client_id, why }) => [client_id, why])]),
        ]),
    ...calls.flatMap(({ product, script }) => [
      `In a shell, for ${product}:\n`,
      // Each line alone, because `plain` would join them.
      script
        .split('\n')
        .map((line) => plain(line))
        .join('\n'),
    ]),
  ]
  return parts.join('\n')
}

/** A plan for a program. */
export function planJson({ direction, clients, leftOut }: Plan, calls: readonly Calls[]) {
  return {
    direction,
    clients: clients.map(({ client_id, format, member, uri }) => ({ client_id, format, member, uri })),
    left_out: leftOut,
    calls,
  }
}
