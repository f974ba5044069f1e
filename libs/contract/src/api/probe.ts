import { type Static, Type } from 'typebox'
import { Count, nullable, Text, Time } from './common.ts'
import { SidText, SubjectText } from './logout-event.ts'
import { model } from './model.ts'

// Schemas of probes of a relying party's endpoint.

export const ProbeInput = Type.Object(
  {
    uri: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 2_048,
        description:
          'The endpoint to probe. It need not be registered. Default: the endpoint of the client. A private address must be allowed by the issuer or the deployment.',
      }),
    ),
    channel: Type.Optional(
      Type.String({
        maxLength: 32,
        description:
          "Kind of the channel. Default: the channel of the client's first endpoint, or back-channel logout without one.",
      }),
    ),
    id_token_signed_response_alg: Type.Optional(
      Type.String({ maxLength: 32, description: "Default: the client's setting, or RS256 without one." }),
    ),
    timeout_ms: Type.Optional(
      Type.Integer({
        minimum: 100,
        maximum: 30_000,
        description:
          "Limit for each request, in milliseconds. Default: the client's setting, or its issuer's without one.",
      }),
    ),
    session: Type.Optional(
      Type.Object(
        { sub: Type.Optional(SubjectText), sid: Type.Optional(SidText) },
        {
          additionalProperties: false,
          minProperties: 1,
          description:
            'A real session, or all sessions of a subject at this relying party. The last request of the probe names it, and so ends it. Only for a registered endpoint for back-channel logout. Needs the scope events:write too.',
        },
      ),
    ),
  },
  { additionalProperties: false, title: 'ProbeInput' },
)
export type ProbeInput = Static<typeof ProbeInput>

const SessionOver = Type.Union([Type.Literal('yes'), Type.Literal('no'), Type.Literal('unknown')], {
  description: 'Whether the session is over at the relying party, by the word of its owner.',
})

/** The word of the owner after a probe of a real session. */
export const ProbeSessionInput = Type.Object(
  { probe: Type.String({ maxLength: 64, description: 'The id of the probe.' }), over: SessionOver },
  { additionalProperties: false, title: 'ProbeSessionInput' },
)
export type ProbeSessionInput = Static<typeof ProbeSessionInput>

/** The token for a real session, and its answer. */
export const ProbeSession = model('ProbeSession', {
  named: Type.Array(Type.Union([Type.Literal('sub'), Type.Literal('sid')]), {
    description: 'The claims that named the session. Their values are not kept.',
  }),
  jti: Text,
  status: Type.Union([Type.Integer(), Type.Null()]),
  duration_ms: Count,
  answer: Text,
  meaning: Type.Union(
    [
      Type.Literal('acknowledged'),
      Type.Literal('already_ended'),
      Type.Literal('refused'),
      Type.Literal('silent'),
    ],
    {
      description:
        'already_ended: acknowledged by an error of curfew.already_ended_errors. silent: not about the token.',
    },
  ),
  over: SessionOver,
  answered_by: nullable(Text),
  answered_at: nullable(Time),
})
export type ProbeSession = Static<typeof ProbeSession>

/** One check, with its result in words for the owner of the relying party. */
export const ProbeCheck = model('ProbeCheck', {
  id: Text,
  title: Text,
  level: Type.Union(
    [Type.Literal('must'), Type.Literal('should'), Type.Literal('may'), Type.Literal('informs')],
    { description: 'The requirement level of the specification. informs: not a requirement.' },
  ),
  section: Type.String({ description: 'The section of the specification.' }),
  result: Type.Union([Type.Literal('passed'), Type.Literal('failed'), Type.Literal('unknown')]),
  what: Type.String({ description: 'The observed behaviour.' }),
  fix: Type.Union([Text, Type.Null()], { description: 'How to correct it.' }),
  status: Type.Union([Type.Integer(), Type.Null()], { description: 'HTTP status of the answer.' }),
  duration_ms: Type.Union([Count, Type.Null()]),
})
export type ProbeCheck = Static<typeof ProbeCheck>

export const ProbeFindings = model('ProbeFindings', {
  passed: Count,
  failed: Count,
  unknown: Count,
  conformant: Type.Boolean({ description: 'True if all checks of level must have passed.' }),
  checks: Type.Array(ProbeCheck),
  suggestions: Type.Array(
    Type.Object({
      setting: Type.String({
        description: 'Name of the setting in the registration, such as curfew.subject_claims.',
      }),
      value: Type.Union([Text, Type.Number(), Type.Boolean(), Type.Array(Text)]),
      why: Text,
    }),
    { description: 'Settings of this client that follow from the results.' },
  ),
  session: Type.Optional(ProbeSession),
})
export type ProbeFindings = Static<typeof ProbeFindings>

/** A probe, with its report when it is done. */
export const Probe = model('Probe', {
  id: Text,
  state: Type.Union([Type.Literal('running'), Type.Literal('done')]),
  issuer: Text,
  client_id: Text,
  channel: Text,
  uri: Text,
  requested_by: Type.String({ description: 'Name of the credential.' }),
  started_at: Time,
  ended_at: Type.Union([Time, Type.Null()]),
  sent: Type.Integer({ minimum: 0, description: 'Number of requests that were answered.' }),
  total: Type.Integer({
    minimum: 0,
    description: 'Number of requests of the probe. It skips requests that would prove nothing.',
  }),
  report: Type.Union([ProbeFindings, Type.Null()], { description: 'Null while the probe is running.' }),
  links: Type.Object({ self: Text, relying_party: Text }),
})
export type Probe = Static<typeof Probe>
