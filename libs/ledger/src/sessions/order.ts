import { CLOCKS_APART_MS_MAX } from '@curfew/domain'

/** SQL: the largest difference between two clocks that we allow for. */
export const CLOCKS_APART = `interval '${CLOCKS_APART_MS_MAX} milliseconds'`

/**
 * SQL: whether a session began before an event, or at the same time. It is the opposite of the domain's `beganAfter`, which
 * explains why.
 *
 * @param session alias of a row with `started_at`, `started_stated` and `accepted_at`.
 * @param event alias of a row with `occurred_at`, `occurred_stated` and `requested_at`.
 */
export function beganBy(session = 's', event = 'e'): string {
  return `(case when ${session}.started_stated and ${event}.occurred_stated then ${session}.started_at <= ${event}.occurred_at
     else ${session}.started_at <= ${event}.occurred_at + ${CLOCKS_APART}
      and (${session}.accepted_at <= ${event}.requested_at or ${session}.started_at <= ${event}.requested_at) end)`
}

/**
 * SQL: whether a session may be on the device of a logout. Every session may if the logout names no device, and so may a session
 * whose device is unknown.
 *
 * @param session alias of a row with `device`.
 * @param event alias of a row with `scope` and `device`.
 */
export const mayBeOnDevice = (session = 's', event = 'e') =>
  `(${event}.scope <> 'device' or ${session}.device is null or ${session}.device = ${event}.device)`

/**
 * SQL: the `expires_at` of a session without an end. It is later than any time, so that every comparison keeps the session. A null
 * would fail each of them, and the session would miss its logout.
 */
export const NO_END = "timestamptz 'infinity'"

/** SQL: when a session ends by itself, as the domain has it: null if it has no end. */
export const endOf = (alias: string) => `nullif(${alias}.expires_at, ${NO_END}) as "expiresAt"`

/** SQL: the columns of a session that make a `SessionBeginning` in the domain. */
export const beginningOf = (alias: string) =>
  `${alias}.started_at as "startedAt", ${alias}.started_stated as "startedStated", ${alias}.accepted_at as "acceptedAt"`

/**
 * SQL: whether the logout `newer` ends all sessions that the logout `older` of the same subject ends. It must be later by both
 * clocks and have the scope `subject`, or both must be logouts of one device.
 *
 * A logout with a stated time covers no logout without one. A stated time comes from the IdP's clock, by which a session may have
 * begun between the two logouts.
 *
 * @param newer alias of a row of `events`.
 * @param older alias of a row of `events`.
 */
export const endsAllOf = (newer: string, older: string) =>
  `${older}.requested_at <= ${newer}.requested_at and ${older}.occurred_at <= ${newer}.occurred_at
   and (${older}.occurred_stated or not ${newer}.occurred_stated)
   and (${newer}.scope = 'subject' or ${older}.scope = ${newer}.scope and ${older}.device = ${newer}.device)`
