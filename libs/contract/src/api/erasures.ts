import { type Static, Type } from 'typebox'
import { Count, nullable, Text, Time } from './common.ts'
import { EmailText, SubjectText } from './logout-event.ts'

// Requests to forget a subject, as they cross the API. Nothing that is answered names one.

export const ErasureParams = Type.Object({
  issuer: Type.String({ minLength: 1, maxLength: 63, description: 'Short name of the issuer.' }),
  sub: SubjectText,
})

export const ErasureQuery = Type.Object(
  {
    abandon: Type.Optional(
      Type.Boolean({
        description:
          'Default false. True: give up, too, what a person could still act on. Dead letters can then never be replayed, ' +
          'quarantined records never be looked into, and open sessions no longer be found by a logout.',
      }),
    ),
    email: Type.Optional({
      ...EmailText,
      description:
        'An email address of the subject, in upper or lower case. It finds logout events that name only an address and a session that ' +
        'no session index knew. Addresses in sessions and events of the subject are used without it. A repeated request may add another.',
    }),
  },
  { additionalProperties: false },
)

/** A request to forget a subject, and how it stands. */
export const Erasure = Type.Object({
  id: Text,
  issuer: Text,
  subject_digest: Type.String({
    description: 'A keyed hash of the issuer and the subject: the same whenever the same is asked for.',
  }),
  status: Type.Union([Type.Literal('waiting'), Type.Literal('completed'), Type.Literal('failed')], {
    description:
      'completed: nothing is known to be left. failed: the search ended because of a fault, see failure; asked for again, it goes on.',
  }),
  failure: Type.Union([Text, Type.Null()], { description: 'Why it failed; null unless it did.' }),
  abandon: Type.Boolean(),
  requested_by: Type.String({ description: 'Name of the credential.' }),
  requested_at: Time,
  completed_at: nullable(Time),
  watched_until: Type.String({
    description:
      'RFC 3339, UTC. What turns up until then is erased as well; then the subject is forgotten here, too.',
  }),
  closed_at: Type.Union([Time, Type.Null()], {
    description: 'When it was. What comes later is kept, until somebody asks again.',
  }),
  erased: Type.Object(
    {
      events: Count,
      deliveries: Count,
      attempts: Type.Integer({ minimum: 0, description: 'That had words of the relying party.' }),
      sessions: Count,
      receipts: Count,
      quarantined: Count,
    },
    { description: 'So far.' },
  ),
  waiting: Type.Union(
    [
      Type.Object({
        events: Type.Integer({ minimum: 0, description: 'That keep their subject, for the reasons beside.' }),
        deliveries: Type.Integer({ minimum: 0, description: 'Under way: they are ended first.' }),
        dead_letters: Type.Integer({ minimum: 0, description: 'Replay them, or give them up with abandon.' }),
        recent: Type.Integer({
          minimum: 0,
          description:
            'Events of the last hour, where the issuer posts sessions: one that began before may be posted late, and is owed them.',
        }),
        sessions: Type.Integer({
          minimum: 0,
          description: 'Open: they go once they are logged out, ended or expired.',
        }),
        quarantined: Type.Integer({
          minimum: 0,
          description: 'Log records that nobody understood: they go with abandon, or in time.',
        }),
      }),
      Type.Null(),
    ],
    { description: 'Null until everything was looked at once.' },
  ),
  links: Type.Object({ self: Text }),
})
export type Erasure = Static<typeof Erasure>
