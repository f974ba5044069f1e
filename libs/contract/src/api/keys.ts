import { SIGNING_ALGORITHMS, type SigningAlgorithm } from '@curfew/domain'
import { type Static, Type } from 'typebox'
import { Finding, nullable, Text, Time } from './common.ts'

// Signing keys as they cross the API: never a private part on the way out.

const Algorithm = Type.Unsafe<SigningAlgorithm>(
  Type.Union(
    SIGNING_ALGORITHMS.map((each) => Type.Literal(each)),
    { description: 'JWS algorithm (RFC 7518).' },
  ),
)
const Jwk = Type.Record(Text, Type.Unknown(), { description: 'A JWK (RFC 7517).' })
const LeadS = Type.Integer({
  minimum: 720,
  maximum: 7_776_000,
  description:
    'Seconds from publication to the first signature. Default 86400; must cover how long the IdP needs to merge the key and RPs keep what it publishes.',
})

/** A signing key: when it signs, and how long it is published. */
export const SigningKey = Type.Object({
  kid: Text,
  alg: Text,
  source: Type.Union([Type.Literal('generated'), Type.Literal('imported'), Type.Literal('remote')]),
  state: Type.Union(
    [Type.Literal('next'), Type.Literal('current'), Type.Literal('previous'), Type.Literal('retired')],
    {
      description:
        'next: published, does not sign yet. current: signs. previous: still published. retired: published no more.',
    },
  ),
  thumbprint: Type.String({ description: 'RFC 7638, SHA-256.' }),
  public_jwk: Jwk,
  created_at: Time,
  published_at: Time,
  signs_from: Time,
  signs_until: nullable(Time),
  published_until: nullable(Time),
})
export type SigningKey = Static<typeof SigningKey>

export const SigningKeys = Type.Object({
  items: Type.Array(SigningKey),
  next_cursor: Type.Null(),
  every_days: Type.Union([Type.Integer(), Type.Null()], {
    description: 'How often generated keys are replaced by themselves; null: never.',
  }),
})
export type SigningKeys = Static<typeof SigningKeys>

/** Generates a key; or imports `jwk`; or takes one that signs elsewhere, `signer` with `public_jwk`. */
export const SigningKeyInput = Type.Object(
  {
    alg: Type.Optional(Algorithm),
    jwk: Type.Optional(
      Type.Record(Text, Type.Unknown(), {
        writeOnly: true,
        description:
          "A private JWK, such as the IdP's own. Its kid is kept. Stored encrypted, never returned.",
      }),
    ),
    public_jwk: Type.Optional(Jwk),
    signer: Type.Optional(
      Type.Object(
        {
          url: Type.String({ minLength: 1, maxLength: 2_048 }),
          credential: Type.String({
            minLength: 1,
            maxLength: 8_192,
            // What a header may carry (RFC 9110 5.5).
            pattern: '^[\\x21-\\x7e]+$',
            writeOnly: true,
            description: 'curfew: a bearer token. vault: a Vault token. Stored encrypted, never returned.',
          }),
          flavour: Type.Optional(
            Type.Union([Type.Literal('curfew'), Type.Literal('vault')], {
              description:
                'Default curfew: POST { kid, alg, input } is answered with { signature }. vault: the transit engine, url up to /v1/transit/sign/NAME.',
            }),
          ),
        },
        { additionalProperties: false },
      ),
    ),
    sign_from: Type.Optional(
      Type.Literal('now', {
        description:
          'Only with jwk or signer: signs at once, for a key that the IdP publishes already. Otherwise after lead_s, where another signs now.',
      }),
    ),
    lead_s: Type.Optional(LeadS),
  },
  { additionalProperties: false, title: 'SigningKey' },
)
export type SigningKeyInput = Static<typeof SigningKeyInput>

export const RotateInput = Type.Object(
  {
    alg: Type.Optional(Algorithm),
    lead_s: Type.Optional(LeadS),
    immediately: Type.Optional(
      Type.Boolean({
        description:
          'Default false. True: the next key signs at once. Until the IdP has merged it and RPs have fetched it, they refuse its tokens; those are retried.',
      }),
    ),
    every_days: Type.Optional(
      Type.Union([Type.Integer({ minimum: 1, maximum: 3_650 }), Type.Null()], {
        description: 'Given: nothing is rotated now, but by itself this often from now on; null: no more.',
      }),
    ),
  },
  { additionalProperties: false, title: 'Rotation' },
)
export type RotateInput = Static<typeof RotateInput>

export const RetireInput = Type.Object(
  {
    compromised: Type.Optional(
      Type.Boolean({
        description:
          'Default false. True: out of the key set at once, though tokens it signed may be under way; those are refused, and retried with another.',
      }),
    ),
  },
  { additionalProperties: false, title: 'Retirement' },
)
export type RetireInput = Static<typeof RetireInput>

/** Whether the IdP publishes our keys, as its relying parties see it. */
export const KeysCheck = Type.Object({
  ok: Type.Boolean(),
  issuer: Text,
  iss: Text,
  checked_at: Time,
  jwks_uri: nullable(Text),
  discovery: Finding,
  jwks: nullable(Finding),
  rotation: Type.Union([Finding, Type.Null()], {
    description: 'Whether keys turn as scheduled; null: there is no schedule.',
  }),
  keys: Type.Array(Type.Object({ kid: Text, alg: Text, state: Text, ...Finding.properties }), {
    description: 'Every key that we publish.',
  }),
})
export type KeysCheck = Static<typeof KeysCheck>
