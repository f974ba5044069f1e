import type { Credential } from '@curfew/runtime'

/** Who calls a route that is not public: for the audit, and for what a route confines itself to. */
export function callerOf({ credential }: { readonly credential: Credential | null }): Credential {
  if (credential === null) throw new Error('a route that asks who calls is public')
  return credential
}
