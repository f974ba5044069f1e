import { CommanderError, InvalidArgumentError, Command as Parser, Option as ParserOption } from 'commander'
import { type Command, type Group, type Options, UsageError } from './arguments.ts'

/** The command that a command line names, such as `curfew dlq list`. */
export interface Named {
  path: string
}

/** Prints the help on standard output, and nothing else: the caller prints the errors. */
const OUTPUT = {
  writeErr: () => undefined,
  outputError: () => undefined,
} as const

/**
 * Builds the parser of the declared commands.
 *
 * @param named receives the command that a failure is about. @param onStatus receives the exit status.
 */
export function createProgram(
  commands: Readonly<Record<string, Command | Group>>,
  {
    version,
    epilogue,
    named,
    onStatus,
  }: { version: string; epilogue: string; named: Named; onStatus: (status: number) => void },
): Parser {
  const program = prepare(new Parser('curfew'), 'Delivers every logout to every relying party.', named)
    .usage('COMMAND')
    .version(version, '--version', 'show the version')
    .addHelpText('after', `\n${epilogue}`)
  for (const [name, declared] of Object.entries(commands)) {
    const parser = program.command(name)
    if (!('commands' in declared)) {
      addCommand(parser, declared, named, onStatus)
      continue
    }
    const names = Object.keys(declared.commands)
    prepare(parser, declared.about, named)
      .usage('COMMAND')
      .summary(`${declared.about}: ${names.join(', ')}`)
    for (const [own, each] of Object.entries(declared.commands))
      addCommand(parser.command(own), each, named, onStatus)
    parser.addHelpText('after', `\nOne command with its options: curfew ${name} COMMAND --help`)
  }
  return program
}

function addCommand(
  parser: Parser,
  { about, words, options, notes, examples, run }: Command,
  named: Named,
  onStatus: (status: number) => void,
): void {
  // Without this, a client_id `help` would show the help.
  prepare(parser, about, named).helpCommand(false)
  for (const [word, meaning] of Object.entries(words)) parser.argument(word, meaning)
  for (const [name, option] of Object.entries(options)) {
    const flags = option.kind === 'flag' ? `--${name}` : `--${name} <${option.value}>`
    const declared = new DeclaredOption(flags, option.about)
    if (option.kind !== 'flag')
      declared.argParser((value, before: unknown): unknown => {
        if (isOptionOf(options, value)) throw new InvalidArgumentError('Its value is missing.')
        // Commander would keep the last value silently.
        if (option.kind === 'text' && before !== undefined)
          throw new InvalidArgumentError('The option takes one value, and is given twice.')
        return option.kind === 'text' ? value : [...((before as readonly string[] | undefined) ?? []), value]
      })
    if (option.heading !== undefined) declared.helpGroup(option.heading)
    parser.addOption(declared)
  }
  if (notes !== '') parser.addHelpText('after', `\n${notes}`)
  if (examples.length > 0)
    parser.addHelpText('after', `\nExamples:\n${examples.map((line) => `  ${line}`).join('\n')}`)
  parser.action(async () => {
    named.path = pathOf(parser)
    onStatus(await run({ values: parser.opts(), positionals: parser.args }))
  })
}

/** An option that keeps its name as it is written, also if it begins with `no-`. */
class DeclaredOption extends ParserOption {
  constructor(flags: string, about: string) {
    super(flags, about)
    this.negate = false
  }

  override attributeName(): string {
    return this.name()
  }
}

function isOptionOf(options: Options, value: string): boolean {
  return value.startsWith('--') && Object.hasOwn(options, value.slice(2))
}

function prepare(parser: Parser, about: string, named: Named): Parser {
  return parser
    .description(about)
    .helpOption('-h, --help', 'show this help')
    .helpCommand('help [COMMAND]', 'show the help of a command')
    .configureOutput(OUTPUT)
    .exitOverride((error) => {
      named.path = pathOf(parser)
      // A group without a command. The parser would show the whole help.
      if (error.code === 'commander.help' && error.exitCode !== 0)
        throw new UsageError(`Give a command: ${parser.commands.map((each) => each.name()).join(', ')}.`)
      throw error
    })
}

function pathOf(parser: Parser): string {
  return parser.parent === null ? parser.name() : `${pathOf(parser.parent)} ${parser.name()}`
}

/** Runs a command line. @throws {UsageError} if it does not match the declarations. */
export async function parseArguments(program: Parser, args: readonly string[]): Promise<void> {
  try {
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    // The help or the version was printed.
    if (error.exitCode === 0) return
    throw new UsageError(sentenceOf(error), { cause: error })
  }
}

/** The message of the parser as one line. */
function sentenceOf({ message }: CommanderError): string {
  const [first = '', ...more] = message.replace(/^error: /, '').split('\n')
  const suggestion = more.join(' ').replace(/^\((.*)\)$/, ' $1')
  const end = first.endsWith('.') ? '' : '.'
  return `${first.charAt(0).toUpperCase()}${first.slice(1)}${end}${suggestion}`
}
