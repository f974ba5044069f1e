import type { BindingId } from '@curfew/domain'
import {
  acknowledgeFetched,
  announceSettled,
  type CutoffReader,
  type Database,
  findAppliedCutoffs,
  noteCutoffReaders,
  removeCutoffReader,
} from '@curfew/ledger'
import { createBatcher } from '@curfew/runtime'

/** A reader that has not read for this long knows that it is stale, and does not vouch for its resource server. */
const SILENT_MS = 60_000
/** Most deliveries of a resource server that are settled at once. */
const SETTLED_MAX = 1_000
const BATCH = 200

/** Settles what all readers of these bindings have applied. @returns whether there may be more. */
async function settleApplied(db: Database, bindings: readonly BindingId[]): Promise<boolean> {
  const found = await findAppliedCutoffs(db, { bindings, silentMs: SILENT_MS, limit: SETTLED_MAX })
  const settled = await acknowledgeFetched(
    db,
    found.map(({ bindingId, id, seq }) => ({
      ...{ bindingId, deliveryIds: [id], level: 'received' as const },
      evidence: `applied_to:${seq}`,
    })),
  )
  if (settled.length > 0) await announceSettled(db, settled)
  return settled.length >= SETTLED_MAX
}

export interface Applied {
  note(reader: CutoffReader): Promise<void>
  /** Forgets a reader that stops. */
  leave(reader: { readonly bindings: readonly BindingId[]; readonly reader: string }): Promise<void>
}

/**
 * Settles what readers say they have applied: a reader that asks for what comes after a number has applied everything up to it. The
 * reads that arrive together are one batch.
 */
export function createApplied(db: Database): Applied {
  const batcher = createBatcher<CutoffReader, undefined>({
    batchSize: BATCH,
    queueMax: 100_000,
    async run(readers) {
      const last = new Map(readers.map((reader) => [`${reader.bindingId} ${reader.reader}`, reader]))
      await noteCutoffReaders(db, [...last.values()])
      const bindings = [...new Set(readers.map(({ bindingId }) => bindingId))]
      while (await settleApplied(db, bindings));
      return readers.map(() => undefined)
    },
  })
  return { note: (reader) => batcher.add(reader), leave: (reader) => removeCutoffReader(db, reader) }
}
