import { command, flag, group } from '../terminal/arguments.ts'

// The commands that work on this machine and do not call the API. They need the code of the services, so that code is loaded only
// when they run.

const UP = { demo: flag('with three relying parties on loopback and one logout') }

export const up = command(
  {
    about: 'run all services in one process, with an embedded PostgreSQL',
    options: UP,
    examples: ['curfew up --demo'],
  },
  async ({ values }) => (await import('./up.ts')).runUp({ demo: values.demo === true }),
)

export const gate = command(
  {
    about: 'answer gateways whether a request may pass: its token is valid, and no logout ended it',
    options: {},
    notes:
      'Needs CURFEW_GATE_FEED, CURFEW_GATE_KEY, CURFEW_GATE_ISSUER and CURFEW_GATE_AUDIENCE; docs/reference/settings.md lists all settings. It needs no database. A gateway asks GET /check, or /check/allow, /check/deny or /check/introspect to choose the answer while the newest logouts are not known.',
  },
  async () => (await import('./gate.ts')).start(),
)

export const migrate = command(
  { about: 'migrate the ledger in DATABASE_URL to the schema of this release', options: {} },
  async () => (await import('./migrate.ts')).runMigrate(),
)

const USE = { yes: flag('do not ask for confirmation') }

export const eventLog = group('the event log that all services use', {
  use: command(
    {
      about:
        'make all services of the ledger in DATABASE_URL use the event log of the present KAFKA_… settings, or, without KAFKA_BROKERS, that in PostgreSQL',
      options: USE,
      notes: 'First check with curfew doctor that no records wait in the old event log.',
    },
    async ({ values }) => (await import('./event-log-use.ts')).runUse({ yes: values.yes === true }),
  ),
})
