import type { Database } from '../postgres/database.ts'

/** How late the projectors of the journal are. */
export interface ProjectionLag {
  /** Age of the oldest entry that no projector has taken in, in seconds; 0 if there is none. */
  readonly journalSeconds: number
  /** The entries at which a projector failed, by projector. Projectors without such entries are absent. */
  readonly left: ReadonlyMap<string, { readonly entries: number; readonly oldestSeconds: number }>
  /** How long the oldest settled event has waited for its receipt, in seconds; 0 if none waits. */
  readonly unreceiptedSeconds: number
}

const AGE = 'greatest(0, extract(epoch from now() - min(at)))::float8'

// A settled event gets its receipt from the journal entry that settled its last delivery, or that planned it without deliveries. The
// journal is short: the entries are deleted once they are projected.
const PROJECTION_LAG = `
  select null as projector, 0::bigint as entries, ${AGE} as age
    from (select at from journal order by id limit 1) oldest
   union all
  select '(receipts)', 0, ${AGE}
    from (
      (select at from journal where kind = 'settled' or cardinality(delivery_ids) = 0 order by id limit 1)
      union all
      (select at from journal_left
        where projector = 'receipts' and (kind = 'settled' or cardinality(delivery_ids) = 0) order by at limit 1)
    ) oldest
   union all
  select projector, count(*), ${AGE} from journal_left group by projector`

/** Reads how late the projectors of the journal are. */
export async function readProjectionLag(db: Database): Promise<ProjectionLag> {
  const { rows } = await db.query<{ projector: string | null; entries: number; age: number | null }>({
    name: 'projection_lag',
    text: PROJECTION_LAG,
  })
  const ageOf = (name: string | null) => rows.find(({ projector }) => projector === name)?.age ?? 0
  return {
    journalSeconds: ageOf(null),
    unreceiptedSeconds: ageOf('(receipts)'),
    left: new Map(
      rows.flatMap(({ projector, entries, age }) =>
        projector === null || projector === '(receipts)'
          ? []
          : [[projector, { entries, oldestSeconds: age ?? 0 }]],
      ),
    ),
  }
}
