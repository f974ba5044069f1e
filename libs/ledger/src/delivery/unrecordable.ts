import type { DeliveryId, WorkerId } from '@curfew/domain'
import { journalSettled, withAcceptance } from '../history/journal.ts'
import { type Database, withTransaction } from '../postgres/database.ts'
import { type DeliveryFault, isDataFault, type OnDeliveryFault, type Refused } from '../postgres/faults.ts'
import { oweSuccessors } from './successors.ts'

// Writes no value from outside and changes no counter. So it succeeds if a value in the row makes the regular statement fail.
const GIVE_UP_UNRECORDABLE = `
  with given_up as (
    update deliveries d
       set state = 'dead_lettered', due_at = null, settled_at = $3::timestamptz, dead_letter_reason = 'unrecordable',
           first_message = null
     where d.id = $1
       and case d.state when 'in_flight' then d.leased_by = $2::uuid when 'pending' then $2::uuid is null else false end
    returning d.id, d.event_id, d.binding_id, d.state, d.generation
  ),
  journalled as (
    ${journalSettled(withAcceptance('given_up'), '$3')}
  )
  select id from given_up`

interface GiveUpRequest {
  readonly id: DeliveryId
  /** The worker that holds the delivery; null if it is pending. */
  readonly workerId: WorkerId | null
  readonly now: Date
}

/**
 * Makes a dead letter of each delivery for which PostgreSQL refused every other statement. If PostgreSQL refuses this, too, the
 * delivery is left as it is.
 *
 * @returns the ids of deliveries that are left as they are, or are not held in this state any more.
 */
export async function giveUpRefused(
  db: Database,
  refused: readonly Refused<DeliveryId>[],
  {
    workerId,
    now,
    doing,
    onFault,
  }: Omit<GiveUpRequest, 'id'> & { doing: DeliveryFault['doing']; onFault: OnDeliveryFault },
): Promise<readonly DeliveryId[]> {
  const left: DeliveryId[] = []
  for (const { item: id, error } of refused) {
    const given = await giveUp(db, { id, workerId, now })
    if (!given) left.push(id)
    onFault({ doing, deliveryId: id, error, became: given ? 'dead_lettered' : 'left' })
  }
  return left
}

async function giveUp(db: Database, { id, workerId, now }: GiveUpRequest): Promise<boolean> {
  try {
    return await withTransaction(db, async (transaction) => {
      const { rows } = await transaction.query({
        name: 'give_up_unrecordable',
        text: GIVE_UP_UNRECORDABLE,
        values: [id, workerId, now],
      })
      await oweSuccessors(transaction, [id])
      return rows.length > 0
    })
  } catch (error) {
    if (isDataFault(error)) return false
    throw error
  }
}
