import { type Static, Type } from 'typebox'
import { Instant, instantOf } from './instant.ts'

/** The issuer identifier `iss` of OpenID Connect: a URL without query or fragment. Compared byte for byte. */
export const IssuerUrl = Type.String({
  minLength: 1,
  maxLength: 512,
  // Printable ASCII without # and ?, which an issuer identifier may not have (OIDC Core section 2).
  pattern: '^https?://[\\x21\\x22\\x24-\\x3e\\x40-\\x7e]+$',
  description:
    'The issuer identifier, as in ID tokens: a URL without query or fragment, compared byte for byte.',
})
/** Printable ASCII: the characters of `client_id` (RFC 6749 appendix A.1) and of `sid` (Back-Channel Logout section 2.1). */
const printableAscii = (description: string) =>
  Type.String({ minLength: 1, maxLength: 255, pattern: '^[\\x20-\\x7e]+$', description })
export const ClientIdText = printableAscii('OAuth 2.0 client identifier at this issuer.')
// OIDC Core section 2 requires ASCII. Real issuers use other characters, too, and a refused logout would leave a session open.
const foreignText = (description: string) =>
  Type.String({
    minLength: 1,
    maxLength: 255,
    pattern: '^[^\\u0000-\\u001f\\u007f\\ud800-\\udfff]+$',
    description,
  })
export const SubjectText = foreignText('The subject, as in ID tokens.')
export const DeviceText = foreignText('The device of the session, as a name or number that the IdP chooses.')
/** An email address from the IdP's directory. Only its form is checked. */
export const EmailText = Type.String({
  minLength: 3,
  maxLength: 320,
  pattern: '^[^\\s@\\u0000-\\u001f\\u007f\\ud800-\\udfff]+@[^\\s@\\u0000-\\u001f\\u007f\\ud800-\\udfff]+$',
  description: 'The email address of the subject, for relying parties that know their users by it.',
})
export const SidText = printableAscii('The session, as in ID tokens. Unique within its issuer.')
export const Uuid = Type.String({
  pattern: '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$',
  description: 'A UUID.',
})

const REASONS = [
  Type.Literal('user'),
  Type.Literal('admin'),
  Type.Literal('policy'),
  Type.Literal('compromise'),
  Type.Literal('expiry'),
  Type.Literal('deletion'),
] as const

const fields = {
  id: { ...Uuid, description: 'A UUID. Unique within the issuer: another issuer may use the same UUID.' },
  iss: IssuerUrl,
  sub: SubjectText,
  sid: SidText,
  email: EmailText,
  scope: Type.Union(
    [Type.Literal('session'), Type.Literal('subject'), Type.Literal('device'), Type.Literal('issuer')],
    {
      description:
        'The sessions to end. session: the session sid (default with a sid). subject: every session of sub. device: the sessions of sub on device. issuer: every session of the issuer.',
    },
  ),
  device: Type.String({
    minLength: 1,
    maxLength: 255,
    pattern: '^[^\\u0000-\\u001f\\u007f\\ud800-\\udfff]+$',
    description:
      'With scope device: the device, as posted with the sessions. Sessions that were posted without a device end too.',
  }),
  reason: Type.Union([...REASONS], { description: 'Why the session ended.' }),
  initiator: printableAscii(
    'Client at which the logout started. It is notified only of its other known sessions, not of sid, unless include_initiator is true.',
  ),
  include_initiator: Type.Boolean({ description: 'Notify the initiator too. Default false.' }),
  occurred_at: instantOf(
    'When the logout happened (RFC 3339), by the same clock as started_at of sessions, at most five minutes ahead. Sessions that began later do not end. Without it the order of acceptance decides.',
  ),
  clients: Type.Array(ClientIdText, {
    minItems: 1,
    maxItems: 1_000,
    uniqueItems: true,
    description: 'Notify only these clients. Default: every client that may have a session.',
  }),
  lane: Type.Union([Type.Literal('interactive'), Type.Literal('bulk')], {
    description:
      'interactive (default): a person waits for the logout. bulk: interactive logouts go first. A logout of scope issuer is always bulk.',
  }),
} as const

/** The query parameter that names the issuer of the event `id` in the path. */
export const IssuerQuery = Type.Object({
  issuer: Type.Optional(
    Type.String({
      maxLength: 63,
      description:
        'Short name of the issuer of the event. A credential that is bound to an issuer does not need it. Without it, an id that several issuers use leads to a 409 that lists them.',
    }),
  ),
})

/** A logout event that an IdP posts. */
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
  {
    ...{ additionalProperties: false, title: 'LogoutEventInput' },
    examples: [
      { iss: 'https://idp.example', sub: '248289761001', reason: 'user' },
      {
        ...{ id: '01938c2e-7f1a-7c4b-9d2e-3a5b6c7d8e9f', iss: 'https://idp.example' },
        ...{ sub: '248289761001', sid: '08a5019c-17e1-4977-8f42-65a12843ea02' },
        ...{ initiator: 'web-shop', occurred_at: '2026-11-21T05:00:00.000Z' },
      },
    ],
  },
)
export type LogoutEventInput = Static<typeof LogoutEventInput>

/**
 * A logout event in the event log: the posted members with their defaults, and the time of acceptance. It has no `occurred_at` if
 * the IdP gave none.
 */
export const AcceptedLogoutEvent = Type.Object(
  {
    ...LogoutEventInput.properties,
    id: fields.id,
    scope: fields.scope,
    lane: fields.lane,
    reason: Type.Optional(
      Type.Union([...REASONS, Type.Literal('audit')], {
        description: 'Why the session ended. audit: a logout audit made the session, and the logout.',
      }),
    ),
    accepted_at: Instant,
    parent_id: Type.Optional({
      ...fields.id,
      description: 'Internal id of the issuer logout that this event is a part of.',
    }),
    parent_accepted_at: Type.Optional(Instant),
    requested_by: Type.Optional(
      Type.String({ description: 'With scope issuer: name of the credential of the request.' }),
    ),
    relay: Type.Optional(
      Type.Object(
        {
          client_id: ClientIdText,
          token: Type.String({ maxLength: 16_384, description: 'The logout token, as the IdP posted it.' }),
          verified: Type.Boolean({
            description:
              "False: the issuer's keys were unavailable, so the token must be verified before use.",
          }),
        },
        { additionalProperties: false, description: 'The logout token that the relay received.' },
      ),
    ),
    txn: Type.Optional(
      Type.String({ maxLength: 255, description: "The IdP's own id of the logout (RFC 8417 section 2.2)." }),
    ),
  },
  { additionalProperties: false, title: 'AcceptedLogoutEvent' },
)
export type AcceptedLogoutEvent = Static<typeof AcceptedLogoutEvent>
