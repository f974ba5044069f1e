import { type Static, Type } from 'typebox'
import { nullable, PageQuery, Problem, Text, Time } from './common.ts'
import { Instant, instantOf } from './instant.ts'
import { ClientIdText, DeviceText, EmailText, IssuerUrl, SidText, SubjectText } from './logout-event.ts'
import { model } from './model.ts'

// Schemas of sessions: posted by IdPs, and read by support staff.

/** A token that Curfew revokes when the session is logged out (RFC 7009). */
const RevocableToken = Type.Object(
  {
    token: Type.String({ pattern: '^[\\x20-\\x7e]{1,16384}$', description: 'The token itself.' }),
    hint: Type.Optional(
      Type.Union([Type.Literal('refresh_token'), Type.Literal('access_token')], {
        description: 'The kind of the token (token_type_hint of RFC 7009). Default: unknown.',
      }),
    ),
  },
  { additionalProperties: false },
)

/** The most tokens of one session. */
const TOKENS_MAX = 4

/** A session of one client. The IdP posts it at its start, and again whenever it extends the session. */
export const SessionInput = Type.Object(
  {
    iss: IssuerUrl,
    sub: SubjectText,
    sid: SidText,
    client_id: ClientIdText,
    started_at: Type.Optional(
      instantOf(
        'When the session began (RFC 3339), at most five minutes ahead. Default: the time of acceptance.',
      ),
    ),
    expires_at: Type.Union(
      [
        instantOf(
          'When the session expires (RFC 3339): after started_at, and at most 400 days ahead. Post the session again when it is extended.',
        ),
        Type.Null(),
      ],
      {
        description:
          'When the session expires by itself; null: it has no end, and is kept until it is ended, logged out or erased.',
      },
    ),
    device: Type.Optional(DeviceText),
    email: Type.Optional(EmailText),
    revocation: Type.Optional(
      Type.Array(RevocableToken, {
        minItems: 1,
        maxItems: TOKENS_MAX,
        writeOnly: true,
        description:
          'The tokens to revoke when the session is logged out, for clients with the channel revocation. A later post of the session with tokens replaces them, so post the session again after each rotation. Stored encrypted, never returned, erased with the session. Needs CURFEW_MASTER_KEY.',
      }),
    ),
  },
  {
    ...{ additionalProperties: false, title: 'SessionInput' },
    examples: [
      {
        ...{ iss: 'https://idp.example', sub: '248289761001', sid: '08a5019c-17e1-4977-8f42-65a12843ea02' },
        ...{ client_id: 'wiki', started_at: '2026-11-21T04:00:00Z', expires_at: '2026-11-21T14:00:00Z' },
      },
    ],
  },
)
export type SessionInput = Static<typeof SessionInput>

const { revocation: _, ...Posted } = SessionInput.properties

/** A session in the event log. It has no `started_at` if the IdP gave none. Its tokens are sealed: see `SessionTokenSealer`. */
export const AcceptedSession = Type.Object(
  { ...Posted, sealed_tokens: Type.Optional(Type.String({ minLength: 1 })), accepted_at: Instant },
  { additionalProperties: false, title: 'AcceptedSession' },
)
export type AcceptedSession = Static<typeof AcceptedSession>

/** The name of a session that ended without a logout, at one client or at all clients. */
export const SessionEndQuery = Type.Object(
  { iss: IssuerUrl, sid: SidText, client_id: Type.Optional(ClientIdText) },
  { additionalProperties: false },
)
export type SessionEndQuery = Static<typeof SessionEndQuery>

/** The end of a session in the event log. */
export const AcceptedSessionEnd = Type.Object(
  { ...SessionEndQuery.properties, accepted_at: Instant },
  { additionalProperties: false, title: 'AcceptedSessionEnd' },
)
export type AcceptedSessionEnd = Static<typeof AcceptedSessionEnd>

/** The answer to an accepted start or end of a session. */
export const SessionAccepted = model('SessionAccepted', {
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
    overlong: Type.Optional(
      Type.Boolean({
        description:
          'True: the sessions that have lasted far longer than is normal for their client, client by client, the oldest first.',
      }),
    ),
    client_id: Type.Optional(ClientIdText),
  },
  { additionalProperties: false },
)

const ExpiresAt = Type.Union([Time, Type.Null()], { description: 'Null: the session has no end.' })

/** A session in the session index. */
export const Session = model('Session', {
  iss: Text,
  sub: Text,
  email: nullable(Text),
  sid: Text,
  client_id: Text,
  device: nullable(Text),
  started_at: Time,
  expires_at: ExpiresAt,
  overlong_since: Type.Union([Time, Type.Null()], {
    description:
      'Since when the session has lasted far longer than is normal for its client. Null: it has not, or too few sessions of the client have ended to say.',
  }),
  logout: Type.Union([
    Type.Object({
      event_id: Type.Union([Text, Type.Null()], { description: 'Null if the event is not kept any more.' }),
      orphaned_at: Type.Union([Time, Type.Null()], {
        description: 'When the logout of the session failed or lapsed. The session may still be open.',
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

/** A session whose logout failed or lapsed. It may still be open. */
export const OrphanedSession = model('OrphanedSession', {
  issuer: Type.Union([Text, Type.Null()], {
    description: 'Short name of the issuer; null if no issuer is registered with this iss.',
  }),
  iss: Text,
  sub: Text,
  email: nullable(Text),
  sid: Text,
  client_id: Text,
  device: nullable(Text),
  started_at: Time,
  expires_at: ExpiresAt,
  orphaned_at: Time,
  event_id: Type.Union([Text, Type.Null()], { description: 'Null if the event is not kept any more.' }),
  why: Type.Union([Text, Type.Null()], {
    description:
      'Why the logout became a dead letter or lapsed. never_planned: no delivery to the relying party was planned. ' +
      'under_way: the delivery was replayed and is not settled yet. Null if the history is not kept any more.',
  }),
  links: Type.Object({ event: nullable(Text), delivery: nullable(Text) }),
})
export type OrphanedSession = Static<typeof OrphanedSession>

/** The path of the sessions named by `(iss, sid)`. */
export function sessionsPath({ iss, sid }: { readonly iss: string; readonly sid: string }): string {
  return `/v1/sessions?${new URLSearchParams({ iss, sid })}`
}
