import { confirmationBody, confirmationMessage } from '@curfew/contract'
import { ALL_NOTIFIED, ClientKeyError, confirmationOf, type DeliveryRecord, summarize } from '@curfew/domain'
import {
  type ClaimedConfirmation,
  claimConfirmations,
  coveringDeliveries,
  type Database,
  findEvents,
  findUnnotified,
  settleConfirmation,
  type WrittenConfirmation,
  writeConfirmation,
} from '@curfew/ledger'
import type { ClientKeySealer } from '@curfew/tokens'
import { createTlsIdentities } from '@curfew/wiring'
import type { Message, MessageSource, Unsendable } from './sender.ts'

/** Concurrent confirmations of one bookkeeper to all clients. */
const ALL_AT_ONCE = 400

export interface ConfirmationsDeps {
  readonly db: Database
  /** Opens the secrets that sign confirmations, and the private keys of clients with mTLS. */
  readonly clientKeys: Pick<ClientKeySealer, 'open'>
  readonly now: () => Date
}

/** The confirmations of logouts, owed to the clients that started them. */
export function confirmationsOf(deps: ConfirmationsDeps): MessageSource<ClaimedConfirmation, number> {
  const { db } = deps
  const tlsOf = createTlsIdentities(deps.clientKeys)

  async function prepare(claimed: ClaimedConfirmation): Promise<Message | Unsendable> {
    const { id, receiver, sid, issuer, clientId } = claimed
    if (receiver === null) return { error: 'the client has no confirmation_uri any more', final: true }
    const written = claimed.written ?? (await write(deps, claimed))
    if ('error' in written) return written
    const owner = { issuer, clientId }
    try {
      const secrets = await Promise.all(
        receiver.sealedSecrets.map((each) => deps.clientKeys.open(each, owner)),
      )
      const tls = await tlsOf({ ...owner, tls: receiver.tls })
      return {
        id,
        url: receiver.uri,
        ...receiver.access,
        tls,
        body: confirmationBody({ ...written, sid }),
        secrets,
      }
    } catch (error) {
      if (!(error instanceof ClientKeyError)) throw error
      return { error: error.message, final: false }
    }
  }

  return {
    name: 'confirmation',
    gone: 'the receiver answered 410 Gone',
    claim({ busy, ...places }) {
      const sending = [...busy.values()].reduce((sum, count) => sum + count, 0)
      return claimConfirmations(db, { busy, ...places, limit: Math.max(0, ALL_AT_ONCE - sending) })
    },
    receiverOf: ({ partyId }) => partyId,
    prepare,
    settle: (claimed, settlement) => settleConfirmation(db, { claimed, settlement }),
    logged: ({ id, issuer, clientId }) => ({ confirmation_id: id, issuer, client_id: clientId }),
  }
}

/** Writes the message of a confirmation from the present state of its event. */
async function write(
  { db, now }: ConfirmationsDeps,
  claimed: ClaimedConfirmation,
): Promise<WrittenConfirmation | Unsendable> {
  const found = (
    await findEvents(db, { ids: [claimed.eventId], deliveriesMax: Number.POSITIVE_INFINITY })
  ).get(claimed.eventId)
  if (found === undefined || found === null || found === 'later')
    return { error: 'its event is not kept any more', final: true }
  const { event, deliveries } = found
  const isSuperseded = ({ state }: Pick<DeliveryRecord, 'state'>) => state === 'superseded'
  const superseded = deliveries.filter(isSuperseded).map(({ id }) => id)
  const covering = superseded.length === 0 ? new Map() : await coveringDeliveries(db, superseded)
  // A superseded delivery is over once the delivery that covers it is settled.
  const ends = deliveries.map((delivery) => ({
    settledAt: isSuperseded(delivery) ? (covering.get(delivery.id)?.settledAt ?? null) : delivery.settledAt,
  }))
  const writtenAt = now()
  const [unnotified = ALL_NOTIFIED] = await findUnnotified(db, [found])
  const summary = summarize(
    deliveries.map((delivery) => ({ ...delivery, coveredBy: covering.get(delivery.id) ?? null })),
    {
      now: writtenAt,
      knownIssuer: event.planBasis !== 'unknown_issuer',
      strategy: event.strategy,
      unnotified,
    },
  )
  const message = confirmationMessage(
    event,
    confirmationOf(summary, { plannedAt: event.plannedAt, deliveries: ends }),
  )
  const kept = await writeConfirmation(db, claimed, { writtenAt, message })
  return kept
    ? { writtenAt, message }
    : { error: 'it was claimed again before its message was written', final: false }
}
