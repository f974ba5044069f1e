import type { Command, Group } from './arguments.ts'

/** The commands by name, in the order of the help. A command is loaded only on use, so that each starts fast. */
export const COMMANDS: Readonly<Record<string, () => Promise<Command | Group>>> = {
  up: async () => (await import('./here.ts')).up,
  migrate: async () => (await import('./here.ts')).migrate,
  events: async () => (await import('./events.ts')).events,
  'issuer-logout': async () => (await import('./issuer-logout.ts')).issuerLogout,
  deliveries: async () => (await import('./deliveries.ts')).deliveries,
  dlq: async () => (await import('./dlq.ts')).dlq,
  quarantine: async () => (await import('./quarantine.ts')).quarantine,
  issuer: async () => (await import('./issuer.ts')).issuer,
  rp: async () => (await import('./rp.ts')).rp,
  sla: async () => (await import('./sla.ts')).sla,
  keys: async () => (await import('./keys.ts')).keys,
  doctor: async () => (await import('./doctor.ts')).doctor,
  'event-log': async () => (await import('./here.ts')).eventLog,
  sessions: async () => (await import('./sessions.ts')).sessions,
  'api-keys': async () => (await import('./api-keys.ts')).apiKeys,
  subjects: async () => (await import('./subjects.ts')).subjects,
  webhooks: async () => (await import('./webhooks.ts')).webhooks,
  receipt: async () => (await import('./receipt.ts')).receipt,
  openapi: async () => (await import('./openapi.ts')).openapi,
  log: async () => (await import('./log.ts')).log,
  completion: async () => (await import('./completion.ts')).completion,
}
