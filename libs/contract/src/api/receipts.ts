import { type Static, Type } from 'typebox'
import { Count, Jwks, nullable, Text } from './common.ts'
import { model } from './model.ts'

// Schemas of receipts and of the receipt log. Hashes are in base64, the encoding of C2SP.

const Hash = Type.String({ description: 'SHA-256, in base64.' })
const Index = Type.Integer({ minimum: 0, description: 'Index of the leaf in the receipt log, from 0.' })
const Size = Type.Integer({ minimum: 0, description: 'Number of leaves of the receipt log.' })
const Proof = Type.Array(Hash)

/** The public keys of the receipt log. */
export const LogKeys = model('LogKeys', {
  origin: Type.String({ description: 'Name of the receipt log, in checkpoints and receipts.' }),
  vkey: Type.String({ description: 'The same key in the format of C2SP signed-note, for witnesses.' }),
  ...Jwks.properties,
})
export type LogKeys = Static<typeof LogKeys>

/** A receipt with everything that an offline check needs, except a trusted key. */
export const ReceiptBundle = model('ReceiptBundle', {
  receipt: Type.String({ description: 'Compact JWS.' }),
  index: Index,
  checkpoint: Type.String({ description: 'C2SP tlog-checkpoint.' }),
  inclusion_proof: Proof,
  consistency_proof: Type.Optional(Type.Object({ from: Size, hashes: Proof })),
  keys: LogKeys,
  subject_key: Type.Optional(
    Type.String({
      description:
        'The key that the subject in the receipt is hashed with. Present if the subject is hashed and the request asked for the key.',
    }),
  ),
})
export type ReceiptBundle = Static<typeof ReceiptBundle>

/** One leaf of the receipt log. */
export const LogEntry = model('LogEntry', {
  index: Index,
  digest: Type.String({ description: 'SHA-256 of the payload of the receipt, in base64.' }),
  leaf_hash: Type.String({ description: 'SHA-256 of a zero byte and the digest, in base64 (RFC 9162).' }),
})
export type LogEntry = Static<typeof LogEntry>

export const LogEntries = model('LogEntries', { items: Type.Array(LogEntry), size: Size })
export type LogEntries = Static<typeof LogEntries>

export const InclusionProof = model('InclusionProof', {
  index: Index,
  size: Size,
  leaf_hash: Hash,
  root: Hash,
  proof: Proof,
})
export type InclusionProof = Static<typeof InclusionProof>

export const ConsistencyProof = model('ConsistencyProof', {
  from: Size,
  to: Size,
  from_root: Hash,
  to_root: Hash,
  proof: Proof,
})
export type ConsistencyProof = Static<typeof ConsistencyProof>

/** A leaf compared with the ledger. */
export const AuditedReceipt = model('AuditedReceipt', {
  ...LogEntry.properties,
  event_id: nullable(Text),
  receipt: Type.Unsafe<'intact' | 'altered' | 'erased' | 'gone'>(
    Type.Union(
      ['intact', 'altered', 'erased', 'gone'].map((word) => Type.Literal(word)),
      {
        description:
          'intact: the stored receipt has the digest in the receipt log. altered: it has another digest. erased: its subject was erased. gone: it is too old, or deleted.',
      },
    ),
  ),
  ledger: Type.Unsafe<'agrees' | 'contradicts' | 'outdated' | 'gone'>(
    Type.Union(
      ['agrees', 'contradicts', 'outdated', 'gone'].map((word) => Type.Literal(word)),
      {
        description:
          'Whether events, deliveries and attempts agree with the receipt. outdated: a newer receipt replaces it, or will. gone: the history is too old, or deleted.',
      },
    ),
  ),
  differences: Type.Array(Text),
})
export type AuditedReceipt = Static<typeof AuditedReceipt>

export const LogAudit = model('LogAudit', { items: Type.Array(AuditedReceipt), size: Count })
export type LogAudit = Static<typeof LogAudit>
