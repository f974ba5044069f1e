import { type Static, Type } from 'typebox'
import { Count, IssuerLogoutProgress, nullable, PageQuery, Text, Time } from './common.ts'
import { IssuerUrl } from './logout-event.ts'
import { model } from './model.ts'

// Schemas of issuer logouts.

export const IssuerLogoutsQuery = Type.Object(
  { ...PageQuery.properties, iss: Type.Optional(IssuerUrl) },
  { additionalProperties: false },
)

/** The result of a dry run: the sessions that an issuer logout would end. */
export const IssuerLogoutPreview = model('IssuerLogoutPreview', {
  dry_run: Type.Literal(true),
  iss: Text,
  plan_basis: Type.Union(
    [Type.Literal('sessions'), Type.Literal('registered'), Type.Literal('unknown_issuer')],
    {
      description:
        'sessions: counted in the session index. registered: the session index is off for this issuer or has none of its sessions. So no relying party could be notified: a logout token must name a session or a subject. unknown_issuer: no issuer has this iss.',
    },
  ),
  subjects: Type.Integer({
    minimum: 0,
    description: 'Number of subjects. Each would get a logout of its own.',
  }),
  sessions: Type.Integer({ minimum: 0, description: 'Number of their sessions in the index.' }),
  by_client: Type.Array(Type.Object({ client_id: Text, sessions: Count, subjects: Count }), {
    description: 'The client with the most sessions first, at most 1,000.',
  }),
  clients_omitted: Count,
})
export type IssuerLogoutPreview = Static<typeof IssuerLogoutPreview>

/** An issuer logout and its progress. */
export const IssuerLogout = model('IssuerLogout', {
  id: Type.String({ description: 'Id of its logout event.' }),
  iss: Text,
  ...IssuerLogoutProgress.properties,
  failure: Type.Union([Text, Type.Null()], { description: 'Why it failed; null otherwise.' }),
  plan_basis: Type.String({
    description:
      'sessions: planned for the subjects in the session index. registered: the session index is off for this issuer or has none of its sessions, so no relying party was notified. unknown_issuer: no issuer has this iss.',
  }),
  reason: nullable(Text),
  initiator: nullable(Text),
  clients: nullable(Type.Array(Text)),
  occurred_at: Time,
  requested_by: Type.String({ description: 'Name of the credential.' }),
  requested_at: Time,
  waiting: Type.Integer({
    minimum: 0,
    description: 'Number of deliveries for these subjects that are not settled yet.',
  }),
  acknowledged: Count,
  superseded: Count,
  lapsed: Count,
  dead: Type.Integer({
    minimum: 0,
    description: 'Number of dead letters that no replay has delivered since.',
  }),
  links: Type.Object({ self: Text, event: Text }),
})
export type IssuerLogout = Static<typeof IssuerLogout>
