import { type ClientMetadata, MAIN_ENDPOINT, type Offer } from '@curfew/domain'
import { type Static, type TProperties, Type } from 'typebox'
import type { PullChannel, RegisterContext, Registered } from '../channel.ts'

/** The settings of an endpoint in the ledger. */
const CutoffSettings = Type.Object(
  {
    /** The longest life of an access token of the issuer, in seconds. */
    max_token_ttl: Type.Integer(),
  },
  { additionalProperties: false },
)
type CutoffSettings = Static<typeof CutoffSettings>

const KIND = 'cutoff'
const SECOND_MS = 1_000

/**
 * The cutoff feed. Its relying party is a resource server, which holds tokens and no sessions, so that it is owed every logout.
 * A logout that it did not read lapses when the last token has expired that it could accept.
 */
export const cutoff: PullChannel<CutoffSettings> = {
  kind: KIND,
  mode: 'pull',
  step: 'revoke',
  best: 'received',
  registration: {} satisfies TProperties,
  settings: CutoffSettings,
  endpoints: readRegistration,
  names: () => ({ names: 'any', widens: false, always: true }),
  offer: ({ max_token_ttl }): Offer => ({ lastsMs: max_token_ttl * SECOND_MS, onDeadline: 'lapsed' }),
  channelNames: { protocol: 'the cutoff feed', address: `curfew.channels.${KIND}` },
  deadLetterFix: () => null,
}

/** Reads `curfew.channels.cutoff`. */
function readRegistration(
  _client: ClientMetadata,
  { issuer, registered }: RegisterContext<object>,
): Registered<CutoffSettings> {
  const enabled = registered.channels?.[KIND] !== undefined
  const endpoint = {
    name: MAIN_ENDPOINT,
    // The address that the resource server reads. Curfew never calls it.
    uri: `/v1/issuers/${issuer.name}/revocations`,
    enabled: true,
    pointer: `/curfew/channels/${KIND}`,
  }
  return {
    settings: { max_token_ttl: issuer.maxTokenTtlS },
    endpoints: enabled ? [endpoint] : [],
    signs: null,
    sendsSecret: false,
    faults: [],
  }
}
