import { createDashboard } from './dashboard.ts'
import { ENGINE } from './engine.ts'
import { OVERVIEW } from './overview.ts'
import { RELYING_PARTY } from './relying-party.ts'
import { SLA } from './sla.ts'

/** The dashboards, as Grafana loads them. */
export const DASHBOARDS = [OVERVIEW, RELYING_PARTY, ENGINE, SLA].map(createDashboard)
