import { type Static, Type } from 'typebox'

/** `iss` as OpenID Connect has it: a URL without query or fragment. Compared byte for byte. */
export const IssuerUrl = Type.String({
  minLength: 1,
  maxLength: 512,
  // Printable ASCII but # and ?, which an issuer identifier may not have (OIDC Core 2).
  pattern: '^https?://[\\x21\\x22\\x24-\\x3e\\x40-\\x7e]+$',
  description:
    'The issuer identifier, as in ID tokens: a URL without query or fragment, compared byte for byte.',
})
/** Printable ASCII, as RFC 6749 appendix A.1 has it for `client_id` and Back-Channel Logout 2.1 for `sid`. */
const printableAscii = (description: string) =>
  Type.String({ minLength: 1, maxLength: 255, pattern: '^[\\x20-\\x7e]+$', description })
export const ClientIdText = printableAscii('OAuth 2.0 client identifier at this issuer.')
// OIDC Core 2 says ASCII; directories behind real issuers say otherwise, and a refused logout is a session left open.
const foreignText = (description: string) =>
  Type.String({
    minLength: 1,
    maxLength: 255,
    pattern: '^[^\\u0000-\\u001f\\u007f\\ud800-\\udfff]+$',
    description,
  })
export const SubjectText = foreignText('The subject, as in ID tokens.')
export const DeviceText = foreignText('Which device the session is on, in words or numbers of the IdP’s own.')
/** An address as directories have it. Whether mail arrives there is not ours to say. */
export const EmailText = Type.String({
  minLength: 3,
  maxLength: 320,
  pattern: '^[^\\s@\\u0000-\\u001f\\u007f\\ud800-\\udfff]+@[^\\s@\\u0000-\\u001f\\u007f\\ud800-\\udfff]+$',
  description: 'The email address of the subject, for relying parties that know their users by it.',
})
export const SidText = printableAscii('The session, as in ID tokens. Unique within its issuer.')
/** A time as RFC 3339 writes it; `description` says which, and when it is if it is not given. */
export const instantOf = (description: string) =>
  Type.String({
    maxLength: 40,
    pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{1,9})?(Z|[+-]\\d{2}:\\d{2})$',
    description,
  })
export const Instant = instantOf('A time as RFC 3339 writes it.')
export const Uuid = Type.String({
  pattern: '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$',
  description: 'A UUID.',
})

const fields = {
  id: { ...Uuid, description: 'A UUID. Unique within the issuer: another issuer may use the same.' },
  iss: IssuerUrl,
  sub: SubjectText,
  sid: SidText,
  email: EmailText,
  scope: Type.Union(
    [Type.Literal('session'), Type.Literal('subject'), Type.Literal('device'), Type.Literal('issuer')],
    {
      description:
        'session: that sid (default where sid is given). subject: every session of sub. device: those of sub on device. issuer: everybody.',
    },
  ),
  device: Type.String({
    minLength: 1,
    maxLength: 255,
    pattern: '^[^\\u0000-\\u001f\\u007f\\ud800-\\udfff]+$',
    description:
      'With scope device: which, as it was posted with the sessions. Those of which nobody has said the device are ended too.',
  }),
  reason: Type.Union(
    [
      Type.Literal('user'),
      Type.Literal('admin'),
      Type.Literal('policy'),
      Type.Literal('compromise'),
      Type.Literal('expiry'),
      Type.Literal('deletion'),
    ],
    { description: 'Why the session ended.' },
  ),
  initiator: printableAscii(
    'Client that the logout was started at. It is told only of sessions that it is known to hold beside sid, unless include_initiator.',
  ),
  include_initiator: Type.Boolean({ description: 'Tell the initiator too. Default false.' }),
  occurred_at: instantOf(
    'When (RFC 3339), by the clock that states started_at: what began later is not logged out. At most five minutes ahead. Without it the order of acceptance decides.',
  ),
  clients: Type.Array(ClientIdText, {
    minItems: 1,
    maxItems: 1_000,
    uniqueItems: true,
    description: 'Tell these clients only. Absent: every client that may hold a session.',
  }),
  lane: Type.Union([Type.Literal('interactive'), Type.Literal('bulk')], {
    description:
      'interactive (default): somebody waits. bulk: it gives way to those; of scope issuer always.',
  }),
} as const

/** The issuer that gave the `id` of a path. */
export const IssuerQuery = Type.Object({
  issuer: Type.Optional(
    Type.String({
      maxLength: 63,
      description:
        'Short name of the issuer that gave the id. A credential that is bound to an issuer needs none. Without it, an id that several issuers use is a 409 that lists them.',
    }),
  ),
})

/** A logout event as an IdP posts it. */
export const LogoutEventInput = Type.Object(
  {
    id: Type.Optional(fields.id),
    iss: fields.iss,
    sub: Type.Optional(fields.sub),
    sid: Type.Optional(fields.sid),
    email: Type.Optional(fields.email),
    scope: Type.Optional(fields.scope),
    device: Type.Optional(fields.device),
    reason: Type.Optional(fields.reason),
    initiator: Type.Optional(fields.initiator),
    include_initiator: Type.Optional(fields.include_initiator),
    occurred_at: Type.Optional(fields.occurred_at),
    clients: Type.Optional(fields.clients),
    lane: Type.Optional(fields.lane),
  },
  { additionalProperties: false, title: 'LogoutEvent' },
)
export type LogoutEventInput = Static<typeof LogoutEventInput>

/** A logout event as it lies in the event log: the same members, with what we filled in and when we accepted it. Without `occurred_at` its IdP stated none. */
export const AcceptedLogoutEvent = Type.Object(
  {
    ...LogoutEventInput.properties,
    id: fields.id,
    scope: fields.scope,
    lane: fields.lane,
    accepted_at: Instant,
    parent_id: Type.Optional({ ...fields.id, description: 'Our own id of the logout of everyone.' }),
    parent_accepted_at: Type.Optional(Instant),
    requested_by: Type.Optional(
      Type.String({ description: 'With scope issuer: name of the credential that asked for it.' }),
    ),
  },
  { additionalProperties: false, title: 'AcceptedLogoutEvent' },
)
export type AcceptedLogoutEvent = Static<typeof AcceptedLogoutEvent>
