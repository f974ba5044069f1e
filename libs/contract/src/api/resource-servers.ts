import { type Static, Type } from 'typebox'
import { nullable, Text, Time } from './common.ts'
import { model } from './model.ts'
import { SlaOverride } from './registry.ts'

// Schemas of resource servers: the APIs that accept access tokens without asking their issuer, and that read the cutoff feed.

/** Registration of a resource server. Its names are those of protected resource metadata (RFC 9728 section 2). */
export const ResourceServerInput = Type.Object(
  {
    resource_name: Type.Optional(
      Type.String({
        maxLength: 255,
        description: 'The name for people, in summaries of a logout for example. Default: its client_id.',
      }),
    ),
    sla: Type.Optional(SlaOverride),
  },
  { additionalProperties: false, title: 'ResourceServerInput' },
)
export type ResourceServerInput = Static<typeof ResourceServerInput>

export const ResourceServer = model('ResourceServer', {
  client_id: Type.String({
    description:
      'The name of the resource server, by which deliveries, receipts and credentials name it. No relying party has it.',
  }),
  issuer: Text,
  resource_name: nullable(Text),
  sla: Type.Union([SlaOverride, Type.Null()]),
  readers: Type.Array(
    Type.Object({
      reader: Type.String({ description: 'The name that the process gave itself; empty if it gave none.' }),
      applied: Type.Integer({ minimum: 0, description: 'The seq up to which it has applied the feed.' }),
      read_at: Time,
    }),
    { description: 'The processes that read the feed for it within the last hour, the latest first.' },
  ),
  offered: Type.Object(
    {
      count: Type.Integer({ minimum: 0, description: 'Counted up to 100000.' }),
      since: Type.Union([Time, Type.Null()], { description: 'When the oldest of them was planned.' }),
    },
    { description: 'Logouts that at least one of its readers has not applied yet.' },
  ),
  created_at: Time,
  updated_at: Time,
  links: Type.Object({
    self: Text,
    revocations: Type.String({
      description: 'The cutoff feed, which it reads with the scope revocations:read.',
    }),
    deliveries: Text,
  }),
})
export type ResourceServer = Static<typeof ResourceServer>
