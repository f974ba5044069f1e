import { AUDIT_EVERY_S, AUDIT_TIMEOUT_S } from '@curfew/domain'
import { type Static, Type } from 'typebox'
import { Count, nullable, PageQuery, Text, Time } from './common.ts'
import { ClientIdText, SubjectText } from './logout-event.ts'
import { model } from './model.ts'

// Schemas of logout audits and of their set-ups.

const Url = Type.String({ minLength: 1, maxLength: 2_048 })
const Method = Type.Union([Type.Literal('GET'), Type.Literal('POST')])
const Statuses = Type.Object(
  {
    status: Type.Array(Type.Integer({ minimum: 200, maximum: 599 }), {
      minItems: 1,
      maxItems: 50,
      uniqueItems: true,
    }),
  },
  { additionalProperties: false },
)
const FieldName = Type.String({ minLength: 1, maxLength: 255 })
const DESCRIPTION_OF_SECRET =
  'Stored encrypted, and in no answer. Absent in a change that keeps kind, URL and user: the stored one stays.'

const httpLogin = { kind: Type.Literal('http'), url: Url, method: Method }
const HttpLoginInput = Type.Object(
  {
    ...httpLogin,
    headers: Type.Optional(
      Type.Record(Type.String({ pattern: '^.{1,100}$' }), Type.String({ maxLength: 4_096 }), {
        writeOnly: true,
        maxProperties: 20,
        description: DESCRIPTION_OF_SECRET,
      }),
    ),
    body: Type.Optional(
      Type.String({ maxLength: 16_384, writeOnly: true, description: DESCRIPTION_OF_SECRET }),
    ),
  },
  {
    additionalProperties: false,
    description:
      "The operator's own hook. It makes a session of a test user, and answers 200 with the JSON object { sub, sid, cookies, headers }: at least one of sub and sid, and the cookies (as name=value) or headers that show the session to check.",
  },
)
const oidcLogin = {
  kind: Type.Literal('oidc'),
  start_url: Type.String({
    minLength: 1,
    maxLength: 2_048,
    description: 'The login URL of the relying party, which redirects to the IdP.',
  }),
  username: Type.String({ minLength: 1, maxLength: 255 }),
  sub: { ...SubjectText, description: 'The sub of the test user. Its sessions at this relying party end.' },
  fields: Type.Optional(
    Type.Object(
      { username: Type.Optional(FieldName), password: Type.Optional(FieldName) },
      {
        additionalProperties: false,
        description: 'Names of the form fields. Default: found by their types.',
      },
    ),
  ),
  submit: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      description: 'Name of the button that submits a form. Default: the first button.',
    }),
  ),
  login_origins: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 255 }), {
      maxItems: 10,
      description:
        'Origins whose forms get the password, such as https://login.idp.example, in addition to the origin of the issuer.',
    }),
  ),
}
const OidcLoginInput = Type.Object(
  {
    ...oidcLogin,
    password: Type.Optional(
      Type.String({ minLength: 1, maxLength: 1_024, writeOnly: true, description: DESCRIPTION_OF_SECRET }),
    ),
  },
  {
    additionalProperties: false,
    description: 'A code-flow login with a test user: redirects are followed, and HTML forms filled in.',
  },
)

const Check = Type.Object(
  {
    url: Url,
    logged_in: Statuses,
    logged_out: Statuses,
    location_prefix: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 2_048,
        description: 'A redirect means logged out only if its target begins with this text.',
      }),
    ),
  },
  {
    additionalProperties: false,
    description:
      'A URL of the relying party, requested with GET like a navigation of a browser. Its status shows whether the session lives.',
  },
)
const Refresh = Type.Object(
  { url: Url, method: Method },
  {
    additionalProperties: false,
    description:
      'A request that makes the relying party refresh its tokens. The audit sends it again and again while the logout is delivered.',
  },
)
const everyS = Type.Integer({
  minimum: AUDIT_EVERY_S.min,
  maximum: AUDIT_EVERY_S.max,
  description: 'Time between two audits, in seconds. Absent: by hand only.',
})
const timeoutS = Type.Integer({
  minimum: AUDIT_TIMEOUT_S.min,
  maximum: AUDIT_TIMEOUT_S.max,
  description: `The longest time that the session may survive the logout, in seconds. Default ${AUDIT_TIMEOUT_S.default}.`,
})

export const AuditSetupInput = Type.Object(
  {
    login: Type.Union([HttpLoginInput, OidcLoginInput]),
    check: Check,
    refresh: Type.Optional(Refresh),
    every_s: Type.Optional(everyS),
    timeout_s: Type.Optional(timeoutS),
  },
  {
    ...{ additionalProperties: false, title: 'AuditSetupInput' },
    examples: [
      {
        login: {
          ...{ kind: 'oidc', start_url: 'https://wiki.example/login' },
          ...{ username: 'audit', password: 'a secret', sub: '248289761001' },
        },
        check: {
          url: 'https://wiki.example/profile',
          logged_in: { status: [200] },
          logged_out: { status: [401, 302, 303] },
        },
        every_s: 3_600,
      },
    ],
  },
)
export type AuditSetupInput = Static<typeof AuditSetupInput>

const result = Type.Union([Type.Literal('passed'), Type.Literal('failed'), Type.Literal('inconclusive')], {
  description:
    'passed: the session was over in time and stayed over. failed: it was not, or came back. inconclusive: the audit could not find out.',
})

export const AuditSetup = model('AuditSetup', {
  issuer: Text,
  client_id: Text,
  login: Type.Union([Type.Object({ ...httpLogin }), Type.Object({ ...oidcLogin, sub: Text })]),
  secrets: Type.Array(Text, {
    description: 'The stored members that no answer shows: headers, body, password.',
  }),
  check: Check,
  refresh: Type.Optional(Refresh),
  every_s: nullable(Type.Integer()),
  timeout_s: Type.Integer(),
  next_due_at: nullable(Time),
  last_result: Type.Union([Type.Literal('passed'), Type.Literal('failed'), Type.Null()], {
    description: 'The result of the last conclusive audit.',
  }),
  last_concluded_at: nullable(Time),
  created_at: Time,
  updated_at: Time,
  links: Type.Object({ self: Text, audits: Text }),
})
export type AuditSetup = Static<typeof AuditSetup>

export const AuditsInput = Type.Object(
  {
    issuer: Type.String({ minLength: 1, maxLength: 63, description: 'Short name of the issuer.' }),
    clients: Type.Optional(
      Type.Array(ClientIdText, {
        minItems: 1,
        maxItems: 1_000,
        uniqueItems: true,
        description: 'Default: every client with a set-up that the credential may see.',
      }),
    ),
  },
  { additionalProperties: false, title: 'AuditsInput' },
)
export type AuditsInput = Static<typeof AuditsInput>

/** One logout audit of one relying party. */
export const Audit = model('Audit', {
  id: Text,
  issuer: Text,
  client_id: Text,
  trigger: Type.Union([Type.Literal('request'), Type.Literal('schedule')]),
  requested_by: Type.String({ description: 'Name of the credential, or bookkeeper.' }),
  requested_at: Time,
  state: Type.Union([Type.Literal('waiting'), Type.Literal('running'), Type.Literal('ended')]),
  started_at: nullable(Time),
  ended_at: nullable(Time),
  result: nullable(result),
  reason: Type.Union([Text, Type.Null()], {
    description: 'Why it failed or is inconclusive, as a code; null if it passed.',
  }),
  what: Type.Union([Text, Type.Null()], { description: 'The result in words.' }),
  fix: Type.Union([Text, Type.Null()], { description: 'How to correct it; null if nothing is wrong.' }),
  event_id: Type.Union([Text, Type.Null()], { description: 'The logout event; null before it was posted.' }),
  accepted_at: nullable(Time),
  propagation_ms: Type.Union([Type.Integer(), Type.Null()], {
    description: 'From acceptance of the logout to the first answer of the check that says logged out.',
  }),
  delivery: Type.Union(
    [
      Type.Object({
        state: Text,
        level: Type.Union([Text, Type.Null()], {
          description: 'What the acknowledgement asserts; null without an acknowledgement.',
        }),
      }),
      Type.Null(),
    ],
    { description: 'What became of the deliveries of the event to this client; null if there were none.' },
  ),
  check: Type.Union(
    [
      Type.Object({
        says: Type.String({ description: 'logged_in, logged_out or unclear.' }),
        status: nullable(Type.Integer()),
        location: nullable(Text),
      }),
      Type.Null(),
    ],
    { description: 'The last answer of the check. Values of parameters of a location are left out.' },
  ),
  checks: Type.Integer({ minimum: 0, description: 'Checks after the logout.' }),
  refreshes: Count,
  links: Type.Object({ self: Text, event: nullable(Text) }),
})
export type Audit = Static<typeof Audit>

/** The audits of one request, one for each client. */
export const Audits = model('Audits', { audits: Type.Array(Audit) })
export type Audits = Static<typeof Audits>

export const AuditsQuery = Type.Object(
  {
    ...PageQuery.properties,
    issuer: Type.Optional(Type.String({ maxLength: 63 })),
    client_id: Type.Optional(ClientIdText),
    result: Type.Optional(result),
  },
  { additionalProperties: false },
)
