import type { Command, Group } from './terminal/arguments.ts'

/** The commands by name, in the order of the help. A command is loaded only on use, so that each starts fast. */
export const COMMANDS: Readonly<Record<string, () => Promise<Command | Group>>> = {
  up: async () => (await import('./here/here.ts')).up,
  gate: async () => (await import('./here/here.ts')).gate,
  migrate: async () => (await import('./here/here.ts')).migrate,
  events: async () => (await import('./logouts/events.ts')).events,
  'issuer-logout': async () => (await import('./logouts/issuer-logout.ts')).issuerLogout,
  deliveries: async () => (await import('./deliveries/deliveries.ts')).deliveries,
  dlq: async () => (await import('./deliveries/dlq.ts')).dlq,
  quarantine: async () => (await import('./deliveries/quarantine.ts')).quarantine,
  issuer: async () => (await import('./registry/issuer.ts')).issuer,
  rp: async () => (await import('./registry/rp.ts')).rp,
  'resource-server': async () => (await import('./registry/resource-server.ts')).resourceServer,
  audit: async () => (await import('./audits/audit.ts')).audit,
  sla: async () => (await import('./operators/sla.ts')).sla,
  keys: async () => (await import('./keys/keys.ts')).keys,
  doctor: async () => (await import('./keys/doctor.ts')).doctor,
  'event-log': async () => (await import('./here/here.ts')).eventLog,
  sessions: async () => (await import('./logouts/sessions.ts')).sessions,
  'api-keys': async () => (await import('./operators/api-keys.ts')).apiKeys,
  subjects: async () => (await import('./operators/subjects.ts')).subjects,
  webhooks: async () => (await import('./operators/webhooks.ts')).webhooks,
  receipt: async () => (await import('./proof/receipt.ts')).receipt,
  openapi: async () => (await import('./operators/openapi.ts')).openapi,
  log: async () => (await import('./proof/log.ts')).log,
  completion: async () => (await import('./terminal/completion.ts')).completion,
}
