import { type Static, Type } from 'typebox'
import { Count, Jwks, nullable, Text } from './common.ts'

// Receipts and the log that they are leaves of, as they cross the API. Hashes are in base64, as C2SP writes them.

const Hash = Type.String({ description: 'SHA-256, in base64.' })
const Index = Type.Integer({ minimum: 0, description: 'Place in the log, from 0.' })
const Size = Type.Integer({ minimum: 0, description: 'Leaves of the log.' })
const Proof = Type.Array(Hash)

/** The public keys of the log. */
export const LogKeys = Type.Object({
  origin: Type.String({ description: 'Name of the log, in checkpoints and receipts.' }),
  vkey: Type.String({ description: 'The same key as C2SP signed-note writes it, for witnesses.' }),
  ...Jwks.properties,
})
export type LogKeys = Static<typeof LogKeys>

/** All that is needed to check a receipt without us, but a key to trust. */
export const ReceiptBundle = Type.Object({
  receipt: Type.String({ description: 'Compact JWS.' }),
  index: Index,
  checkpoint: Type.String({ description: 'C2SP tlog-checkpoint.' }),
  inclusion_proof: Proof,
  consistency_proof: Type.Optional(Type.Object({ from: Size, hashes: Proof })),
  keys: LogKeys,
  subject_key: Type.Optional(
    Type.String({
      description: 'What whoever the receipt names is hashed with, where it is and was asked for.',
    }),
  ),
})
export type ReceiptBundle = Static<typeof ReceiptBundle>

/** One leaf. */
export const LogEntry = Type.Object({
  index: Index,
  digest: Type.String({ description: 'SHA-256 of the payload of the receipt, in base64.' }),
  leaf_hash: Type.String({ description: 'SHA-256 of a zero byte and the digest, in base64 (RFC 9162).' }),
})
export type LogEntry = Static<typeof LogEntry>

export const LogEntries = Type.Object({ items: Type.Array(LogEntry), size: Size })
export type LogEntries = Static<typeof LogEntries>

export const InclusionProof = Type.Object({
  index: Index,
  size: Size,
  leaf_hash: Hash,
  root: Hash,
  proof: Proof,
})
export type InclusionProof = Static<typeof InclusionProof>

export const ConsistencyProof = Type.Object({
  from: Size,
  to: Size,
  from_root: Hash,
  to_root: Hash,
  proof: Proof,
})
export type ConsistencyProof = Static<typeof ConsistencyProof>

/** What the ledger has of one leaf. */
export const AuditedReceipt = Type.Object({
  ...LogEntry.properties,
  event_id: nullable(Text),
  receipt: Type.Unsafe<'intact' | 'altered' | 'erased' | 'gone'>(
    Type.Union(
      ['intact', 'altered', 'erased', 'gone'].map((word) => Type.Literal(word)),
      {
        description:
          'altered: what is stored is not what the log has the digest of. gone: too old, or deleted.',
      },
    ),
  ),
  ledger: Type.Unsafe<'agrees' | 'contradicts' | 'outdated' | 'gone'>(
    Type.Union(
      ['agrees', 'contradicts', 'outdated', 'gone'].map((word) => Type.Literal(word)),
      {
        description:
          'Whether events, deliveries and attempts say what the receipt says. outdated: a newer receipt does, or will.',
      },
    ),
  ),
  differences: Type.Array(Text),
})
export type AuditedReceipt = Static<typeof AuditedReceipt>

export const LogAudit = Type.Object({ items: Type.Array(AuditedReceipt), size: Count })
export type LogAudit = Static<typeof LogAudit>
