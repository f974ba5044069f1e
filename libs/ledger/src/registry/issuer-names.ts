import { type AccessFilter, type Issuer, NO_ISSUER } from '@curfew/domain'
import type { Database } from '../postgres/database.ts'
import { findIssEver } from '../privacy/erasures.ts'

/** Looks up issuers by short name and by `iss`. A removed issuer keeps both, so an answer stays true. */
export interface IssuerNames {
  /** Null if this name was never registered. */
  issOf(name: string): Promise<Issuer | null>
  /** Null if this `iss` was never registered, or if the ledger does not answer soon. Never rejects. */
  nameOf(iss: Issuer): Promise<string | null>
}

/** Most names in the cache. */
const NAMES_MAX = 10_000
/** Longest wait for a name, in milliseconds. */
const PATIENCE_MS = 200
/** Pause before the ledger is queried again for a name that it did not return, in milliseconds. */
const PAUSE_MS = 1_000

const NAME_OF = 'select name from issuers where iss = $1'

export function createIssuerNames(db: Database): IssuerNames {
  const known = new Map<Issuer, string>()
  const isses = new Map<string, Issuer>()
  const asking = new Map<Issuer, Promise<string | null>>()
  /** No query before these times: the `iss` was not registered a moment ago. */
  const unknownUntil = new Map<Issuer, number>()
  /** No query before this time: the ledger was unavailable. */
  let unavailableUntil = 0

  function keep(iss: Issuer, name: string): void {
    if (known.size >= NAMES_MAX) {
      known.clear()
      isses.clear()
    }
    known.set(iss, name)
    isses.set(name, iss)
  }

  async function ask(iss: Issuer): Promise<string | null> {
    try {
      const { rows } = await db.query<{ name: string }>({ name: 'name_of_iss', text: NAME_OF, values: [iss] })
      const name = rows[0]?.name ?? null
      if (name !== null) keep(iss, name)
      else {
        if (unknownUntil.size >= NAMES_MAX) unknownUntil.clear()
        unknownUntil.set(iss, Date.now() + PAUSE_MS)
      }
      return name
    } catch {
      // A link without a name still leads to the event, if only one issuer uses the id.
      unavailableUntil = Date.now() + PAUSE_MS
      return null
    } finally {
      asking.delete(iss)
    }
  }

  return {
    async issOf(name) {
      const iss = isses.get(name) ?? (await findIssEver(db, name))
      if (iss !== null) keep(iss, name)
      return iss
    },
    async nameOf(iss) {
      const name = known.get(iss)
      if (name !== undefined) return name
      const now = Date.now()
      if (unavailableUntil > now || (unknownUntil.get(iss) ?? 0) > now) return null
      const asked = asking.get(iss) ?? ask(iss)
      asking.set(iss, asked)
      return within(asked)
    },
  }

  async function within(asked: Promise<string | null>): Promise<string | null> {
    const { promise, resolve } = Promise.withResolvers<null>()
    const timer = setTimeout(() => {
      unavailableUntil = Date.now() + PAUSE_MS
      resolve(null)
    }, PATIENCE_MS)
    const name = await Promise.race([asked, promise])
    clearTimeout(timer)
    return name
  }
}

/**
 * Finds the `iss` at which a caller looks for an event. A bound credential that names another issuer gets an `iss` without
 * events.
 *
 * @param name the short name that the caller gave.
 * @returns null if the caller may see every issuer and named none.
 */
export async function requestedIssuer(
  names: Pick<IssuerNames, 'issOf'>,
  access: AccessFilter,
  name: string | undefined,
): Promise<Issuer | null> {
  if (access.kind !== 'everything')
    return name === undefined || name === access.issuer ? access.iss : NO_ISSUER
  return name === undefined ? null : ((await names.issOf(name)) ?? NO_ISSUER)
}
