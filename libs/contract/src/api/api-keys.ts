import { type Static, Type } from 'typebox'
import { nullable, SCOPES, type Scope, Text, Time } from './common.ts'
import { ClientIdText, Instant } from './logout-event.ts'

// API keys as they cross the API.

const CLIENTS_MAX = 1_000

const ScopeName = Type.Unsafe<Scope>(Type.Union(SCOPES.map((scope) => Type.Literal(scope))))

export const ApiKeyInput = Type.Object(
  {
    name: Type.String({
      pattern: '^[A-Za-z0-9][A-Za-z0-9._ @-]{0,99}$',
      description: 'For logs and audit: who holds it.',
    }),
    scopes: Type.Array(ScopeName, {
      minItems: 1,
      maxItems: SCOPES.length,
      description: 'What it may do; admin is everything.',
    }),
    issuer: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 63,
        description: 'Short name of the issuer that it is bound to: it sees nothing else.',
      }),
    ),
    clients: Type.Optional(
      Type.Array(ClientIdText, {
        minItems: 1,
        maxItems: CLIENTS_MAX,
        uniqueItems: true,
        description: 'Clients of that issuer that it is bound to: it sees nothing else.',
      }),
    ),
    requests_per_second: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 100_000,
        description: 'Most requests that it may make of one process.',
      }),
    ),
    expires_at: Type.Optional(Instant),
  },
  { additionalProperties: false, title: 'ApiKey' },
)
export type ApiKeyInput = Static<typeof ApiKeyInput>

/** An API key, without the key. */
export const ApiKey = Type.Object({
  id: Text,
  name: Text,
  hint: Type.String({ description: 'Its first characters.' }),
  scopes: Type.Array(Text),
  issuer: nullable(Text),
  clients: nullable(Type.Array(Text)),
  requests_per_second: nullable(Type.Integer()),
  created_at: Time,
  created_by: Text,
  expires_at: nullable(Time),
  revoked_at: nullable(Time),
  revoked_by: nullable(Text),
  last_used_at: Type.Union([Time, Type.Null()], { description: 'To within some ten seconds.' }),
  links: Type.Object({ self: Text }),
})
export type ApiKey = Static<typeof ApiKey>

export const NewApiKey = Type.Object({
  ...ApiKey.properties,
  key: Type.String({ description: 'The key itself. It is shown this once; only its hash is kept.' }),
})
export type NewApiKey = Static<typeof NewApiKey>
