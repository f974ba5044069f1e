import type { KeysCheck } from '@curfew/contract'
import type { IssuerRecord } from '@curfew/ledger'
import type { Finding, KeySets } from './key-sets.ts'

/** The findings about the relay of an issuer. @param keys the findings about Curfew's own keys. */
export function relayFindings(
  issuer: IssuerRecord,
  sets: KeySets,
  keys: KeysCheck['keys'],
): NonNullable<KeysCheck['relay']> {
  return { keys: verifyingFinding(issuer, sets), retries: retriesFinding(issuer, sets, keys) }
}

const UNTIL = 'Until it can, Curfew keeps the logouts of the relay in quarantine.'

/** Whether the relay can fetch the keys of the issuer, and from where. */
function verifyingFinding({ relay: { jwksUri } }: IssuerRecord, { verifying }: KeySets): Finding {
  if (verifying === null)
    return {
      ok: false,
      what: `The relay cannot fetch the keys of the issuer, because discovery names none. ${UNTIL}`,
      fix: 'Correct the finding about discovery, or set the jwks_uri of the issuer.',
    }
  const { uri, finding } = verifying
  if (!finding.ok)
    return { ...finding, what: `The relay cannot verify logout tokens. ${finding.what} ${UNTIL}` }
  const source = jwksUri === null ? 'which discovery names' : 'which is the jwks_uri of the issuer'
  return { ok: true, what: `The relay verifies logout tokens with the keys of ${uri}, ${source}.`, fix: null }
}

/** Whether relying parties can verify a retry. The relay forwards the token of the IdP only once. */
function retriesFinding({ name }: IssuerRecord, { published }: KeySets, keys: KeysCheck['keys']): Finding {
  const signing = keys.filter(({ state }) => state === 'current')
  if (signing.length === 0)
    return {
      ok: true,
      what: 'Curfew has no key of the issuer, because no relying party needs one yet.',
      fix: null,
    }
  if (published === null || published.keys === null)
    return {
      ok: false,
      what: "It is not known whether the IdP publishes Curfew's key, which signs the retries.",
      fix: 'Correct the findings above first.',
    }
  const refused = signing.filter(({ ok }) => !ok).map(({ kid }) => kid)
  if (refused.length === 0)
    return { ok: true, what: "A retry is signed by Curfew's key, which the IdP publishes.", fix: null }
  return {
    ok: false,
    what: `A retry is signed by Curfew's key ${refused.join(', ')}, which ${published.uri} does not publish: a relying party that was unavailable refuses it until the IdP publishes the key.`,
    fix: `Merge /issuers/${name}/jwks.json into the key set of the IdP, or let Curfew sign with a key of the IdP: curfew keys import FILE --sign-now.`,
  }
}
