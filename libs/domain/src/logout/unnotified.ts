// Clients that a logout is about and that get no delivery of it. Their sessions stay logged in until the person acts.

/** The ledger's facts about a client without a delivery of an event. */
export interface WithoutDelivery {
  readonly clientId: string
  /** Null if none is registered. */
  readonly clientName: string | null
  /** The sessions of the client that the event ends, according to the session index; null if it knows none. */
  readonly sessions: {
    /** When the last of them ends by itself; null if unknown. */
    readonly endAt: Date | null
    /** Whether the index found that a logout of one of them failed, or was owed to no endpoint. */
    readonly orphaned: boolean
  } | null
  /** Whether the client was registered when the event was planned. */
  readonly registered: boolean
  /** Whether the client had an endpoint when the event was planned. */
  readonly hadEndpoint: boolean
  /** Whether the client has an endpoint. */
  readonly hasEndpoint: boolean
  /** Whether the session index has every session of the issuer, and knew some that the event ends. */
  readonly indexComplete: boolean
}

/**
 * Why a client gets no delivery.
 * - `not_registered`: the event names the client, or the client holds a session, and no relying party has this client_id.
 * - `no_endpoint`: the relying party had no endpoint when the event was planned.
 * - `not_yet`: the session was posted after the event was planned, and its delivery is about to be owed.
 */
export type Unnotified = 'not_registered' | 'no_endpoint' | 'not_yet'

/** A client that an event is about and that gets no delivery of it. */
export interface UnnotifiedClient {
  readonly clientId: string
  readonly clientName: string | null
  readonly why: Unnotified
  /** Whether the client holds a session that the event ends, according to the session index. */
  readonly holdsSession: boolean
  /** When the last session of the client ends by itself; null if unknown. */
  readonly sessionsEndAt: Date | null
}

/** The clients that get no notification of an event. */
export interface UnnotifiedClients {
  readonly clients: readonly UnnotifiedClient[]
  /** The client that started the logout, if it was skipped for that reason; null otherwise. */
  readonly initiator: { readonly clientId: string; readonly clientName: string | null } | null
  /** False if the subject has more sessions than the ledger reads, so that `clients` may lack some. */
  readonly complete: boolean
}

export const ALL_NOTIFIED: UnnotifiedClients = { clients: [], initiator: null, complete: true }

/**
 * Decides why a client gets no delivery; null if none is needed. A client without a known session was named by the event. If it is
 * registered and the index knows every session, it holds none.
 */
export function whyUnnotified(facts: Omit<WithoutDelivery, 'clientId' | 'clientName'>): Unnotified | null {
  const { sessions, registered, hadEndpoint, hasEndpoint, indexComplete } = facts
  if (sessions !== null) {
    if (hasEndpoint && !sessions.orphaned) return 'not_yet'
    return registered ? 'no_endpoint' : 'not_registered'
  }
  if (!registered) return 'not_registered'
  return hadEndpoint || indexComplete ? null : 'no_endpoint'
}

/** The clients among `facts` that need a notification and get none. */
export function unnotifiedAmong(facts: readonly WithoutDelivery[]): readonly UnnotifiedClient[] {
  return facts.flatMap(({ clientId, clientName, ...rest }) => {
    const why = whyUnnotified(rest)
    if (why === null) return []
    const { sessions } = rest
    return [
      { clientId, clientName, why, holdsSession: sessions !== null, sessionsEndAt: sessions?.endAt ?? null },
    ]
  })
}
