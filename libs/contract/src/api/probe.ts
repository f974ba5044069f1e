import { type Static, Type } from 'typebox'
import { Count, Text, Time } from './common.ts'

// Probes of a relying party's endpoint, as they cross the API.

export const ProbeInput = Type.Object(
  {
    uri: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 2_048,
        description:
          "An endpoint that need not be registered. Default the client's own. It may live at private addresses only where its issuer or the deployment allows them.",
      }),
    ),
    channel: Type.Optional(
      Type.String({
        maxLength: 32,
        description: "Default that of the client's first endpoint, else back-channel logout.",
      }),
    ),
    id_token_signed_response_alg: Type.Optional(
      Type.String({ maxLength: 32, description: "Default the client's own, else RS256." }),
    ),
    timeout_ms: Type.Optional(
      Type.Integer({
        minimum: 100,
        maximum: 30_000,
        description: "How long each request may take. Default the client's own, else its issuer's.",
      }),
    ),
  },
  { additionalProperties: false, title: 'Probe' },
)
export type ProbeInput = Static<typeof ProbeInput>

/** One check, in words for the owner of the relying party. */
export const ProbeCheck = Type.Object({
  id: Text,
  title: Text,
  level: Type.Union(
    [Type.Literal('must'), Type.Literal('should'), Type.Literal('may'), Type.Literal('informs')],
    { description: 'How the specification puts it; informs: not at all.' },
  ),
  section: Type.String({ description: 'Where the specification says so.' }),
  result: Type.Union([Type.Literal('passed'), Type.Literal('failed'), Type.Literal('unknown')]),
  what: Type.String({ description: 'What was seen.' }),
  fix: Type.Union([Text, Type.Null()], { description: 'What would mend it.' }),
  status: Type.Union([Type.Integer(), Type.Null()], { description: 'HTTP status of the answer.' }),
  duration_ms: Type.Union([Count, Type.Null()]),
})
export type ProbeCheck = Static<typeof ProbeCheck>

export const ProbeFindings = Type.Object({
  passed: Count,
  failed: Count,
  unknown: Count,
  conformant: Type.Boolean({ description: 'Every check that is a must has passed.' }),
  checks: Type.Array(ProbeCheck),
  suggestions: Type.Array(
    Type.Object({
      setting: Type.String({ description: 'As the registration names it, such as curfew.subject_claims.' }),
      value: Type.Union([Text, Type.Number(), Type.Boolean()]),
      why: Text,
    }),
    { description: 'What that implies for our settings of this client.' },
  ),
})
export type ProbeFindings = Static<typeof ProbeFindings>

/** A probe: under way, or with what it found. */
export const Probe = Type.Object({
  id: Text,
  state: Type.Union([Type.Literal('running'), Type.Literal('done')]),
  issuer: Text,
  client_id: Text,
  channel: Text,
  uri: Text,
  requested_by: Type.String({ description: 'Name of the credential.' }),
  started_at: Time,
  ended_at: Type.Union([Time, Type.Null()]),
  sent: Type.Integer({ minimum: 0, description: 'Requests that are answered.' }),
  total: Type.Integer({
    minimum: 0,
    description: 'Requests that there are; not all are sent where that would prove nothing.',
  }),
  report: Type.Union([ProbeFindings, Type.Null()], { description: 'Null while it is running.' }),
  links: Type.Object({ self: Text, relying_party: Text }),
})
export type Probe = Static<typeof Probe>
