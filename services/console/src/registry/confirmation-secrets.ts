import type { StoredConfirmationSecrets } from '@curfew/ledger'
import type { Fault } from '@curfew/runtime'
import { OVERLAP_MS, secretFaults } from '../http/signing-secrets.ts'
import type { Registration } from './registration.ts'

// The part of a registration that belongs to confirmations: its address, and the secret that signs them.

/** The faults of the members of confirmations. */
export function confirmationFaults(
  { body, before, showsSecrets }: Pick<Registration, 'body' | 'before' | 'showsSecrets'>,
  targetFault: (uri: string) => string | null,
): readonly Fault[] {
  const faults: Fault[] = []
  const {
    confirmation_uri: uri,
    confirmation_deadline_ms: deadline,
    confirmation_secret: secret,
  } = body.curfew ?? {}
  const fault = (member: string, detail: string) => faults.push({ pointer: `/curfew/${member}`, detail })
  const address = uri === undefined ? null : targetFault(uri)
  if (address !== null) fault('confirmation_uri', address)
  if (uri === undefined && deadline !== undefined)
    fault('confirmation_deadline_ms', 'must be absent without confirmation_uri')
  if (uri === undefined && secret !== undefined)
    fault('confirmation_secret', 'must be absent without confirmation_uri')
  if (secret !== undefined) faults.push(...secretFaults(secret, '/curfew/confirmation_secret'))
  else if (uri !== undefined && !showsSecrets && before?.settings.confirmation === undefined)
    fault(
      'confirmation_secret',
      'is required in an import, unless one is stored: the answer of an import cannot show a new one',
    )
  return faults
}

/**
 * The secrets to store with a valid registration.
 *
 * @param seal seals a secret for this relying party, unless the sealed `kept` is the same secret.
 * @returns `stored` null: the registration has no confirmation_uri. `made`: the secret that was made; null if none was needed.
 */
export async function confirmationSecrets(
  { body, before }: Pick<Registration, 'body' | 'before'>,
  {
    seal,
    newSecret,
  }: { seal: (secret: string, kept: string | null) => Promise<string>; newSecret: () => string },
): Promise<{ readonly stored: StoredConfirmationSecrets | null; readonly made: string | null }> {
  const { confirmation_uri: uri, confirmation_secret: given } = body.curfew ?? {}
  if (uri === undefined) return { stored: null, made: null }
  const kept = before?.settings.confirmation
  if (given !== undefined) {
    const sealed = await seal(given, kept?.sealed_secret ?? null)
    return { stored: sealed === kept?.sealed_secret ? kept : { sealed_secret: sealed }, made: null }
  }
  if (kept !== undefined) return { stored: kept, made: null }
  const made = newSecret()
  return { stored: { sealed_secret: await seal(made, null) }, made }
}

/** The secrets after a rotation. At most two secrets sign: one that still signs since an earlier rotation is dropped. */
export function rotated(
  { sealed_secret: previous }: StoredConfirmationSecrets,
  sealedSecret: string,
  now: Date,
): StoredConfirmationSecrets {
  return {
    sealed_secret: sealedSecret,
    sealed_previous_secret: previous,
    previous_secret_until: new Date(now.getTime() + OVERLAP_MS).toISOString(),
  }
}
