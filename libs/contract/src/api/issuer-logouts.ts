import { type Static, Type } from 'typebox'
import { Count, IssuerLogoutProgress, nullable, PageQuery, Text, Time } from './common.ts'
import { IssuerUrl } from './logout-event.ts'

// Logouts of everyone of an issuer, as they cross the API.

export const IssuerLogoutsQuery = Type.Object(
  { ...PageQuery.properties, iss: Type.Optional(IssuerUrl) },
  { additionalProperties: false },
)

/** What a logout of everyone would touch. */
export const IssuerLogoutPreview = Type.Object({
  dry_run: Type.Literal(true),
  iss: Text,
  plan_basis: Type.Union(
    [Type.Literal('sessions'), Type.Literal('registered'), Type.Literal('unknown_issuer')],
    {
      description:
        'sessions: counted in the session index. registered: the index says nothing about this issuer, and nobody could be told, for a logout token must name a session or a subject. unknown_issuer: no issuer has this iss.',
    },
  ),
  subjects: Type.Integer({ minimum: 0, description: 'For how many a logout of their own would be made.' }),
  sessions: Type.Integer({ minimum: 0, description: 'How many of their sessions the index knows.' }),
  by_client: Type.Array(Type.Object({ client_id: Text, sessions: Count, subjects: Count }), {
    description: 'The most sessions first; 1,000 at most.',
  }),
  clients_left_out: Count,
})
export type IssuerLogoutPreview = Static<typeof IssuerLogoutPreview>

/** A logout of everyone, and how it stands. */
export const IssuerLogout = Type.Object({
  id: Type.String({ description: 'Of its logout event.' }),
  iss: Text,
  ...IssuerLogoutProgress.properties,
  failure: Type.Union([Text, Type.Null()], { description: 'Why it failed; null unless it did.' }),
  plan_basis: Type.String({
    description:
      'sessions: the session index knows whom there are. registered: it says nothing about this issuer, so nobody was told. unknown_issuer: no issuer has this iss.',
  }),
  reason: nullable(Text),
  initiator: nullable(Text),
  clients: nullable(Type.Array(Text)),
  occurred_at: Time,
  requested_by: Type.String({ description: 'Name of the credential.' }),
  requested_at: Time,
  waiting: Type.Integer({ minimum: 0, description: 'Deliveries of these: not settled yet.' }),
  acknowledged: Count,
  superseded: Count,
  lapsed: Count,
  dead: Type.Integer({ minimum: 0, description: 'Dead-lettered, and not replayed with success since.' }),
  links: Type.Object({ self: Text, event: Text }),
})
export type IssuerLogout = Static<typeof IssuerLogout>
