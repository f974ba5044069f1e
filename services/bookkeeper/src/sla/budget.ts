import { SLA_SPANS, spanEnd, spanStart } from '@curfew/domain'
import {
  type IssuerRecord,
  type Queryable,
  readPromises,
  type SlaNow,
  type SlaRequest,
  slaNow,
} from '@curfew/ledger'

/** Measures the whole window of an issuer's error budget. @param nowMs as in `SlaRequest`. */
export async function measureBudget(db: Queryable, issuer: IssuerRecord, nowMs: number): Promise<SlaNow> {
  const scope = { issuer: issuer.name, clientIds: null }
  const range = lastHours(nowMs, issuer.slaWindowDays * SLA_SPANS.day)
  return slaNow(db, scope, { promises: await readPromises(db, scope), range, nowMs })
}

/** The range of `lengthMs` until now, extended to full hours. */
export function lastHours(nowMs: number, lengthMs: number): SlaRequest['range'] {
  return { fromMs: spanStart('hour', nowMs - lengthMs), toMs: spanEnd('hour', nowMs + 1) }
}
