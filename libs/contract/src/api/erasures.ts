import { type Static, Type } from 'typebox'
import { Count, nullable, Text, Time } from './common.ts'
import { EmailText, SubjectText } from './logout-event.ts'
import { model } from './model.ts'

// Schemas of requests to erase a subject. No answer names the subject.

export const ErasureParams = Type.Object({
  issuer: Type.String({ minLength: 1, maxLength: 63, description: 'Short name of the issuer.' }),
  sub: SubjectText,
})

export const ErasureQuery = Type.Object(
  {
    abandon: Type.Optional(
      Type.Boolean({
        description:
          'Default false. True: also erase data that a person could still act on. Dead letters can then never be replayed, ' +
          'quarantined records can never be examined, and logouts do not find open sessions.',
      }),
    ),
    email: Type.Optional({
      ...EmailText,
      description:
        'An email address of the subject, in upper or lower case. It finds logout events that name only an address and a session that ' +
        'the session index did not know. Curfew uses the addresses in sessions and events of the subject without it. A repeated request may add another address.',
    }),
  },
  { additionalProperties: false },
)

/** A request to erase a subject, and its progress. */
export const Erasure = model('Erasure', {
  id: Text,
  issuer: Text,
  subject_digest: Type.String({
    description: 'A keyed hash of the issuer and the subject. Equal for every request about this subject.',
  }),
  status: Type.Union([Type.Literal('waiting'), Type.Literal('completed'), Type.Literal('failed')], {
    description:
      'completed: no data of the subject is known to remain. failed: a fault ended the search, see failure. A repeated request continues it.',
  }),
  failure: Type.Union([Text, Type.Null()], { description: 'Why it failed; null otherwise.' }),
  abandon: Type.Boolean(),
  requested_by: Type.String({ description: 'Name of the credential.' }),
  requested_at: Time,
  completed_at: nullable(Time),
  watched_until: Type.String({
    description:
      'RFC 3339, UTC. Data that arrives until then is erased too. Then Curfew erases the subject from this request as well.',
  }),
  closed_at: Type.Union([Time, Type.Null()], {
    description:
      'When Curfew erased the subject from this request. Data that arrives later is kept until the next request.',
  }),
  erased: Type.Object(
    {
      events: Count,
      deliveries: Count,
      attempts: Type.Integer({
        minimum: 0,
        description: 'Attempts with text from the answer of the relying party.',
      }),
      sessions: Count,
      receipts: Count,
      quarantined: Count,
    },
    { description: 'Numbers of erased items so far.' },
  ),
  waiting: Type.Union(
    [
      Type.Object({
        events: Type.Integer({
          minimum: 0,
          description: 'Events that keep their subject, because of the other numbers here.',
        }),
        deliveries: Type.Integer({
          minimum: 0,
          description: 'Unsettled deliveries. They must be settled first.',
        }),
        dead_letters: Type.Integer({
          minimum: 0,
          description: 'Dead letters. Replay them, or erase them with abandon.',
        }),
        recent: Type.Integer({
          minimum: 0,
          description:
            'Events of the last hour, if the issuer posts sessions. A session that began before may be posted late, and then needs them.',
        }),
        sessions: Type.Integer({
          minimum: 0,
          description: 'Open sessions. They are erased when they are logged out, ended or expired.',
        }),
        quarantined: Type.Integer({
          minimum: 0,
          description: 'Quarantined log records. They are erased with abandon, or when their retention ends.',
        }),
      }),
      Type.Null(),
    ],
    { description: 'The items that remain. Null until the first search has ended.' },
  ),
  links: Type.Object({ self: Text }),
})
export type Erasure = Static<typeof Erasure>
