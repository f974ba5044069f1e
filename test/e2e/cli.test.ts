import { describe, expect, test } from 'vitest'
import manifest from '../../package.json' with { type: 'json' }
import { createTestDatabase } from '../support/database.ts'
import { openGate } from '../support/gate.ts'
import { useProcesses } from '../support/processes.ts'

// Goal: the command reports each mistake in its arguments or environment once, in words. Scripts recognise it by the exit status.
// Method: the real command.

const processes = useProcesses()

async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const command = processes.start({ name: 'curfew', file: 'services/cli/src/main.ts', args, env })
  const { code } = await command.exit()
  return { code, stdout: command.stdout, stderr: command.stderr, lines: command.stderr.trimEnd().split('\n') }
}

describe('the command', () => {
  test('without arguments prints its commands to standard error, and exits with 2', async () => {
    const { code, stdout, stderr } = await run([])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(/^Usage: curfew COMMAND\n/)
    expect(stderr).toContain('issuer-logout')
  })

  test.each([
    { args: ['upp'], says: "Unknown command 'upp'. Did you mean up?", see: 'curfew' },
    { args: ['upp', '--help'], says: "Unknown command 'upp'. Did you mean up?", see: 'curfew' },
    { args: ['constructor'], says: "Unknown command 'constructor'.", see: 'curfew' },
    { args: ['dlq', 'lst'], says: "Unknown command 'lst'. Did you mean list?", see: 'curfew dlq' },
    { args: ['dlq'], says: 'Give a command: list, show, replay.', see: 'curfew dlq' },
    { args: ['up', '--demi'], says: "Unknown option '--demi'. Did you mean --demo?", see: 'curfew up' },
    {
      args: ['migrate', 'now'],
      says: "Too many arguments for 'migrate'. Expected 0 arguments but got 1: now.",
      see: 'curfew migrate',
    },
    { args: ['dlq', 'show'], says: "Missing required argument 'ID'.", see: 'curfew dlq show' },
    {
      args: ['dlq', 'list', '--limit'],
      says: "Option '--limit <N>' argument missing.",
      see: 'curfew dlq list',
    },
    {
      args: ['dlq', 'list', '--client', '--json'],
      says: "Option '--client <CLIENT_ID>' argument '--json' is invalid. Its value is missing.",
      see: 'curfew dlq list',
    },
    { args: ['rp', 'list'], says: 'Give an API key: --key, or CURFEW_KEY.', see: 'curfew rp list' },
  ])('for $args prints the fault and where to find help, and exits with 2', async ({ args, says, see }) => {
    const { code, stdout, lines } = await run(args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(lines).toEqual([says, `See ${see} --help`])
  })

  test.each([
    { args: ['rp', 'import', '--help'] },
    { args: ['rp', 'import', 'realm.json', '-h'] },
    { args: ['help', 'rp', 'import'] },
    { args: ['rp', 'help', 'import'] },
  ])('$args prints the help of that command alone', async ({ args }) => {
    const { code, stdout, stderr } = await run(args)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^Usage: curfew rp import \[options\] \[FILE\]\n/)
    expect(stdout).toContain('--dry-run')
    expect(stdout).toContain('Examples:\n  curfew rp import realm.json --dry-run\n')
    expect(stdout).not.toContain('rp probe')
    expect(stdout).not.toMatch(/^Commands:/m)
  })

  test.each([{ args: ['rp', '--help'] }, { args: ['help', 'rp'] }])(
    '$args lists the subcommands',
    async ({ args }) => {
      const { code, stdout, stderr } = await run(args)
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(stdout).toMatch(/^ {2}import \[options\] \[FILE\] +register many relying parties/m)
      expect(stdout).not.toContain('webhooks')
    },
  )

  test.each([{ args: ['--help'] }, { args: ['help'] }])(
    '$args prints the commands to standard output, and exits with 0',
    async ({ args }) => {
      const { code, stdout, stderr } = await run(args)
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(stdout).toContain('dead letters')
    },
  )

  test('--version prints the version of the release', async () => {
    expect(await run(['--version'])).toMatchObject({ code: 0, stdout: `${manifest.version}\n`, stderr: '' })
  })

  test('the help has no colours, also where the environment asks for them', async () => {
    const { stdout } = await run(['dlq', 'list', '--help'], { FORCE_COLOR: '1' })
    expect(stdout).not.toContain('\u001b')
  })
})

describe('the environment', () => {
  const secret = 'short-master-key'
  test.each([
    { what: 'the port', env: { CURFEW_PORT: 'abc' }, says: [/^CURFEW_PORT must be a whole number .*"abc"$/] },
    {
      what: 'the master key',
      env: { CURFEW_MASTER_KEY: secret },
      says: [/^CURFEW_MASTER_KEY must be 32 bytes in base64url/],
    },
    {
      what: 'the admin key',
      env: { CURFEW_ADMIN_KEY: secret },
      says: [/^CURFEW_ADMIN_KEY must be at least 32 characters/],
    },
    {
      what: 'the database',
      env: { DATABASE_URL: `mysql://root:${secret}@localhost/curfew` },
      says: [/^DATABASE_URL must be a URL that begins with postgres:/],
    },
    {
      what: 'a network',
      env: { CURFEW_ALLOWED_NETWORKS: '10.0.0.0' },
      says: [/^CURFEW_ALLOWED_NETWORKS: "10.0.0.0" is not a CIDR/],
    },
    {
      what: 'a range of ports',
      env: { CURFEW_ALLOWED_PORTS: '443,9000-8000' },
      says: [/^CURFEW_ALLOWED_PORTS: "9000-8000" is not a port/],
    },
    {
      what: 'all of these',
      env: {
        CURFEW_PORT: 'abc',
        CURFEW_MASTER_KEY: secret,
        DATABASE_URL: `mysql://root:${secret}@localhost/curfew`,
        LOG_LEVEL: 'loud',
      },
      says: [/^DATABASE_URL /, /^CURFEW_PORT /, /^CURFEW_MASTER_KEY /, /^LOG_LEVEL /],
    },
  ])(
    'with a fault in $what is reported in a line per fault without secrets, and exit status 2',
    async ({ env, says }) => {
      const { code, stdout, stderr, lines } = await run(['up'], env)
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
      expect(lines).toEqual(says.map((line) => expect.stringMatching(line)))
      expect(stderr).not.toContain(secret)
    },
  )

  test('without DATABASE_URL makes migrate name it', async () => {
    const { code, stderr } = await run(['migrate'])
    expect({ code, stderr }).toEqual({ code: 2, stderr: 'DATABASE_URL is not set\n' })
  })

  test('with a wrong database password is reported in a line without the password, and exit status 1', async () => {
    await using database = await createTestDatabase()
    expect(await run(['migrate'], { DATABASE_URL: database.url })).toMatchObject({
      code: 0,
      stdout: 'The ledger is up to date.\n',
    })
    const url = new URL(database.url)
    url.password = secret
    const { code, lines, stderr } = await run(['migrate'], { DATABASE_URL: url.href })
    expect(code).toBe(1)
    expect(lines).toEqual([expect.stringContaining('password authentication failed')])
    expect(stderr).not.toContain(secret)
  })

  test('with an unavailable database makes migrate wait for it, and continue when it is available', async () => {
    await using database = await createTestDatabase()
    const gate = await openGate(database.url)
    await gate.shut()
    const command = processes.start({
      name: 'curfew',
      file: 'services/cli/src/main.ts',
      args: ['migrate'],
      env: { DATABASE_URL: gate.url },
    })
    await expect.poll(() => command.stderr, { timeout: 10_000 }).toContain('waiting for it')
    await gate.open()
    expect(await command.exit()).toMatchObject({ code: 0 })
    await gate.close()
  })
})
