import { type Static, Type } from 'typebox'
import { nullable, PageQuery, Problem, Text, Time } from './common.ts'
import {
  ClientIdText,
  DeviceText,
  EmailText,
  Instant,
  IssuerUrl,
  instantOf,
  SidText,
  SubjectText,
} from './logout-event.ts'

// Who holds which session, as the IdP says it, and as support staff read it.

/** A session of one client, as its IdP posts it when it starts, and again whenever it is extended. */
export const SessionInput = Type.Object(
  {
    iss: IssuerUrl,
    sub: SubjectText,
    sid: SidText,
    client_id: ClientIdText,
    started_at: Type.Optional(
      instantOf('When it began (RFC 3339), at most five minutes ahead. Default: when it is accepted.'),
    ),
    expires_at: instantOf(
      'When it ends by itself (RFC 3339): after started_at, and at most 400 days ahead. Post it again when it is extended.',
    ),
    device: Type.Optional(DeviceText),
    email: Type.Optional(EmailText),
  },
  { additionalProperties: false, title: 'Session' },
)
export type SessionInput = Static<typeof SessionInput>

/** A session as it lies in the event log. Without `started_at` its IdP stated none. */
export const AcceptedSession = Type.Object(
  { ...SessionInput.properties, accepted_at: Instant },
  { additionalProperties: false, title: 'AcceptedSession' },
)
export type AcceptedSession = Static<typeof AcceptedSession>

/** Which session ended by itself: at this client, or at all of them. */
export const SessionEndQuery = Type.Object(
  { iss: IssuerUrl, sid: SidText, client_id: Type.Optional(ClientIdText) },
  { additionalProperties: false },
)
export type SessionEndQuery = Static<typeof SessionEndQuery>

/** The end of a session as it lies in the event log. */
export const AcceptedSessionEnd = Type.Object(
  { ...SessionEndQuery.properties, accepted_at: Instant },
  { additionalProperties: false, title: 'AcceptedSessionEnd' },
)
export type AcceptedSessionEnd = Static<typeof AcceptedSessionEnd>

/** What an accepted start or end is answered with. */
export const SessionAccepted = Type.Object({
  status: Type.Literal('accepted'),
  links: Type.Object({ session: Text }),
})
export type SessionAccepted = Static<typeof SessionAccepted>

export const SessionAcceptedOrRejected = Type.Union([
  SessionAccepted,
  Type.Object({ status: Type.Literal('rejected'), problem: Problem }),
])
export type SessionAcceptedOrRejected = Static<typeof SessionAcceptedOrRejected>

export const SessionsQuery = Type.Object(
  {
    ...PageQuery.properties,
    iss: IssuerUrl,
    sub: Type.Optional(SubjectText),
    sid: Type.Optional(SidText),
  },
  { additionalProperties: false },
)

/** A session that a client has, as far as the index knows. */
export const Session = Type.Object({
  iss: Text,
  sub: Text,
  email: nullable(Text),
  sid: Text,
  client_id: Text,
  device: nullable(Text),
  started_at: Time,
  expires_at: Time,
  logout: Type.Union([
    Type.Object({
      event_id: Type.Union([Text, Type.Null()], { description: 'Null where the event is no longer kept.' }),
      orphaned_at: Type.Union([Time, Type.Null()], {
        description: 'Since when the session ought to be over, and is not as far as anybody knows.',
      }),
      links: Type.Object({ event: nullable(Text) }),
    }),
    Type.Null(),
  ]),
})
export type Session = Static<typeof Session>

export const OrphansQuery = Type.Object(
  {
    ...PageQuery.properties,
    issuer: Type.Optional(Type.String({ minLength: 1, maxLength: 63 })),
    client_id: Type.Optional(ClientIdText),
  },
  { additionalProperties: false },
)

/** A session whose logout came to nothing. */
export const OrphanedSession = Type.Object({
  issuer: Type.Union([Text, Type.Null()], {
    description: 'Short name of the issuer; null where none is registered with this iss.',
  }),
  iss: Text,
  sub: Text,
  email: nullable(Text),
  sid: Text,
  client_id: Text,
  device: nullable(Text),
  started_at: Time,
  expires_at: Time,
  orphaned_at: Time,
  event_id: Type.Union([Text, Type.Null()], { description: 'Null where the event is no longer kept.' }),
  why: Type.Union([Text, Type.Null()], {
    description:
      'Why its logout was given up on, or lapsed; never_planned: its relying party was not told at all; ' +
      'under_way: it was replayed, and is not settled yet. Null where history is no longer kept.',
  }),
  links: Type.Object({ event: nullable(Text), delivery: nullable(Text) }),
})
export type OrphanedSession = Static<typeof OrphanedSession>

/** Where the sessions are that `(iss, sid)` names. */
export function sessionsPath({ iss, sid }: { readonly iss: string; readonly sid: string }): string {
  return `/v1/sessions?${new URLSearchParams({ iss, sid })}`
}
