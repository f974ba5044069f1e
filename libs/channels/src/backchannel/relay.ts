import type { ClientMetadata, KnownMember } from '@curfew/domain'
import type { Fault } from '../channel.ts'
import { namedAlgorithmOf } from '../signing-algorithm.ts'
import { MEMBERS } from './registration.ts'

/** The URI to which the IdP posts the logout tokens of a client; null if its metadata names none. */
export function logoutUriOf(client: ClientMetadata): KnownMember | null {
  const uri = client.member(MEMBERS.logoutUri)
  return typeof uri?.value === 'string' ? uri : null
}

/** Why the relay cannot take the IdP's logout tokens for a client; null if it can. Logout tokens are made like ID tokens. */
export function relayFault(client: ClientMetadata): Fault | null {
  const encryption = client.member(MEMBERS.encryption)
  if (encryption !== null) {
    const detail = `its logout tokens are encrypted (${encryption.value}), and only the client has the key`
    return { pointer: encryption.pointer, detail }
  }
  const algorithm = namedAlgorithmOf(client)
  if (algorithm === null || !/^HS\d+$/.test(String(algorithm.value))) return null
  const detail = `its logout tokens are signed with its client secret (${algorithm.value}), which Curfew does not have`
  return { pointer: algorithm.pointer, detail }
}
