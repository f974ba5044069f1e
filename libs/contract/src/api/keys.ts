import { TOKEN_ALGORITHMS, type TokenAlgorithm } from '@curfew/domain'
import { type Static, Type } from 'typebox'
import { Finding, nullable, Text, Time } from './common.ts'
import { model } from './model.ts'

// Schemas of signing keys. No answer has the private part of a key.

const Algorithm = Type.Unsafe<TokenAlgorithm>(
  Type.Union(
    TOKEN_ALGORITHMS.map((name) => Type.Literal(name)),
    { description: 'JWS algorithm (RFC 7518). Ed25519 (RFC 9864) is an alias of EdDSA.' },
  ),
)
const Jwk = Type.Record(Text, Type.Unknown(), { description: 'A JWK (RFC 7517).' })
const LeadS = Type.Integer({
  minimum: 720,
  maximum: 7_776_000,
  description:
    'Seconds from publication to the first signature. Default 86400. Must cover the time until the IdP publishes the key, and the time that RPs cache its key set.',
})

/** A signing key with the times of its signatures and its publication. */
export const SigningKey = model('SigningKey', {
  kid: Text,
  alg: Text,
  source: Type.Union([Type.Literal('generated'), Type.Literal('imported'), Type.Literal('remote')]),
  state: Type.Union(
    [Type.Literal('next'), Type.Literal('current'), Type.Literal('previous'), Type.Literal('retired')],
    {
      description:
        'next: published, does not sign yet. current: signs. previous: published, does not sign any more. retired: not published any more.',
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

/** A key that was just added. */
export const AddedKey = model('AddedKey', {
  ...SigningKey.properties,
  kid_reason: Type.Union([Type.String(), Type.Null()], {
    description:
      'Why the key has its kid, in sentences: the IdP publishes it so, or it is the RFC 7638 thumbprint. null: the request gave the kid, or Curfew generated the key.',
  }),
})
export type AddedKey = Static<typeof AddedKey>

export const SigningKeys = model('SigningKeys', {
  items: Type.Array(SigningKey),
  next_cursor: Type.Null(),
  every_days: Type.Union([Type.Integer(), Type.Null()], {
    description: 'Interval of the scheduled rotation of generated keys, in days; null: no schedule.',
  }),
})
export type SigningKeys = Static<typeof SigningKeys>

/** Input for a new key: generated, imported with `jwk`, or remote with `signer` and `public_jwk`. */
export const SigningKeyInput = Type.Object(
  {
    alg: Type.Optional(Algorithm),
    jwk: Type.Optional(
      Type.Record(Text, Type.Unknown(), {
        writeOnly: true,
        description:
          "A private JWK, such as the IdP's own. Curfew keeps its kid, stores it encrypted, and never returns it. Without a kid, Curfew takes the one with which the IdP publishes the same key, or the RFC 7638 thumbprint.",
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
            // The characters that a header may have (RFC 9110 section 5.5).
            pattern: '^[\\x21-\\x7e]+$',
            writeOnly: true,
            description: 'curfew: a bearer token. vault: a Vault token. Stored encrypted, never returned.',
          }),
          flavour: Type.Optional(
            Type.Union([Type.Literal('curfew'), Type.Literal('vault')], {
              description:
                'Protocol of the signer. Default curfew: it answers POST { kid, alg, input } with { signature }. vault: the transit engine, with url up to /v1/transit/sign/NAME.',
            }),
          ),
        },
        { additionalProperties: false },
      ),
    ),
    sign_from: Type.Optional(
      Type.Literal('now', {
        description:
          'Only with jwk or signer: the key signs at once. Use it for a key that the IdP publishes already. Without it, and if another key signs now, the key signs after lead_s.',
      }),
    ),
    lead_s: Type.Optional(LeadS),
  },
  { additionalProperties: false, title: 'SigningKeyInput' },
)
export type SigningKeyInput = Static<typeof SigningKeyInput>

export const RotateInput = Type.Object(
  {
    alg: Type.Optional(Algorithm),
    lead_s: Type.Optional(LeadS),
    immediately: Type.Optional(
      Type.Boolean({
        description:
          'Default false. True: the next key signs at once. RPs refuse its tokens until the IdP publishes the key and they have fetched it. Curfew retries these tokens.',
      }),
    ),
    every_days: Type.Optional(
      Type.Union([Type.Integer({ minimum: 1, maximum: 3_650 }), Type.Null()], {
        description:
          'Interval of a scheduled rotation, in days; null ends the schedule. If given, the request itself rotates nothing.',
      }),
    ),
  },
  { additionalProperties: false, title: 'RotateInput' },
)
export type RotateInput = Static<typeof RotateInput>

export const RetireInput = Type.Object(
  {
    compromised: Type.Optional(
      Type.Boolean({
        description:
          'Default false. True: the key leaves the key set at once. RPs then refuse tokens under way that it signed, and Curfew retries these with another key.',
      }),
    ),
  },
  { additionalProperties: false, title: 'RetireInput' },
)
export type RetireInput = Static<typeof RetireInput>

/** The check whether the IdP publishes our keys, from the view of its relying parties. */
export const KeysCheck = model('KeysCheck', {
  ok: Type.Boolean(),
  issuer: Text,
  iss: Text,
  checked_at: Time,
  jwks_uri: nullable(Text),
  discovery: Finding,
  jwks: nullable(Finding),
  rotation: Type.Union([Finding, Type.Null()], {
    description: 'Whether keys are rotated on schedule; null: there is no schedule.',
  }),
  keys: Type.Array(Type.Object({ kid: Text, alg: Text, state: Text, ...Finding.properties }), {
    description: 'Every key that Curfew publishes.',
  }),
  relay: Type.Union([Type.Object({ keys: Finding, retries: Finding }), Type.Null()], {
    description:
      'keys: whether the relay can fetch the keys of the issuer. retries: whether relying parties can verify a retry of a relayed logout. null: the issuer has no jwks_uri, and no logout came by the relay in the last day.',
  }),
})
export type KeysCheck = Static<typeof KeysCheck>
