import manifest from '../package.json' with { type: 'json' }
import { COMMANDS } from './commands.ts'
import { type Command, type Group, UsageError } from './terminal/arguments.ts'
import { createProgram, parseArguments } from './terminal/program.ts'

// The curfew command. Exit status: 0 success, 1 failure or a negative answer, 2 wrong usage (a UsageError).

const EPILOGUE = `One command with its options: curfew COMMAND --help

Commands that call a running Curfew take --url URL and --key KEY, or CURFEW_URL (default http://127.0.0.1:8480) and CURFEW_KEY.
--json prints JSON for programs. Settings come from the environment; docs/reference/settings.md lists them.
Exit status: 0 success; 1 failure or a negative answer; 2 wrong usage, or a request that the server finds invalid.`

async function main(given: readonly string[]): Promise<number> {
  const args = withHelp(given)
  const named = { path: 'curfew' }
  let status = 0
  try {
    const program = createProgram(await declarationsOf(args[0]), {
      version: manifest.version,
      epilogue: EPILOGUE,
      named,
      onStatus: (ended) => {
        status = ended
      },
    })
    if (args.length === 0) {
      process.stderr.write(program.helpInformation())
      return 2
    }
    await parseArguments(program, args)
    return status
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    if (!(error instanceof UsageError)) return 1
    process.stderr.write(`See ${named.path} --help\n`)
    return 2
  }
}

/** `help X` as `X --help`, because the parser's own command `help` reads one word only. Help about an unknown command is an error. */
function withHelp(given: readonly string[]): readonly string[] {
  const [first = '', ...rest] = given
  if (first === 'help') return withHelp([...rest, '--help'])
  return first.startsWith('-') || Object.hasOwn(COMMANDS, first) ? given : given.slice(0, 1)
}

/** The declarations that a command line needs. Those of one command load faster than all. */
async function declarationsOf(name: string | undefined): Promise<Readonly<Record<string, Command | Group>>> {
  if (name === '--version') return {}
  const names = name !== undefined && Object.hasOwn(COMMANDS, name) ? [name] : Object.keys(COMMANDS)
  return Object.fromEntries(await Promise.all(names.map(async (each) => [each, await COMMANDS[each]?.()])))
}

// A reader such as `head` closes the pipe when it has enough, which is not a failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit()
  throw error
})
process.exitCode = await main(process.argv.slice(2))
