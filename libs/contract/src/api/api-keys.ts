import { type Static, Type } from 'typebox'
import { nullable, SCOPES, type Scope, Text, Time } from './common.ts'
import { Instant } from './instant.ts'
import { ClientIdText } from './logout-event.ts'
import { model } from './model.ts'

// Schemas of API keys.

const CLIENTS_MAX = 1_000

const ScopeName = Type.Unsafe<Scope>(Type.Union(SCOPES.map((scope) => Type.Literal(scope))))

export const ApiKeyInput = Type.Object(
  {
    name: Type.String({
      pattern: '^[A-Za-z0-9][A-Za-z0-9._ @-]{0,99}$',
      description: 'A name for the log and the audit log, such as the program or person that uses the key.',
    }),
    scopes: Type.Array(ScopeName, {
      minItems: 1,
      maxItems: SCOPES.length,
      description: 'The permissions of the key. admin includes all others.',
    }),
    issuer: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 63,
        description: 'Short name of an issuer. The key then sees only this issuer. Default: all issuers.',
      }),
    ),
    clients: Type.Optional(
      Type.Array(ClientIdText, {
        minItems: 1,
        maxItems: CLIENTS_MAX,
        uniqueItems: true,
        description: 'Clients of that issuer. The key then sees only these clients. Default: all clients.',
      }),
    ),
    requests_per_second: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 100_000,
        description: 'Limit of requests per second, in each process.',
      }),
    ),
    expires_at: Type.Optional(Instant),
  },
  { additionalProperties: false, title: 'ApiKeyInput' },
)
export type ApiKeyInput = Static<typeof ApiKeyInput>

/** An API key without its secret value. */
export const ApiKey = model('ApiKey', {
  id: Text,
  name: Text,
  hint: Type.String({ description: 'The first characters of the key.' }),
  scopes: Type.Array(Text),
  issuer: nullable(Text),
  clients: nullable(Type.Array(Text)),
  requests_per_second: nullable(Type.Integer()),
  created_at: Time,
  created_by: Text,
  expires_at: nullable(Time),
  revoked_at: nullable(Time),
  revoked_by: nullable(Text),
  last_used_at: Type.Union([Time, Type.Null()], { description: 'Accurate to about ten seconds.' }),
  links: Type.Object({ self: Text }),
})
export type ApiKey = Static<typeof ApiKey>

/** The credential of the caller itself. */
export const OwnCredential = model('OwnCredential', {
  name: Text,
  scopes: Type.Array(Text),
  issuer: Type.Union([Text, Type.Null()], {
    description: 'Short name of the issuer that the credential is bound to; null if it is bound to none.',
  }),
  iss: Type.Union([Text, Type.Null()], { description: 'The iss of that issuer.' }),
  clients: Type.Union([Type.Array(Text), Type.Null()], {
    description: 'The clients of that issuer that it is bound to; null if it is bound to none.',
  }),
  expires_at: Type.Union([Time, Type.Null()], { description: 'Null: it does not expire.' }),
})
export type OwnCredential = Static<typeof OwnCredential>

export const NewApiKey = model('NewApiKey', {
  ...ApiKey.properties,
  key: Type.String({
    description: 'The key itself. Curfew shows it only in this answer, and stores only its hash.',
  }),
})
export type NewApiKey = Static<typeof NewApiKey>
