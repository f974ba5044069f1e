import { type ParseArgsConfig, parseArgs } from 'node:util'

/**
 * Wrong usage: the arguments are invalid, the server finds the request invalid, or a named file cannot be read. The command exits
 * with status 2. Any other error exits with 1.
 */
export class UsageError extends Error {}

export type Command = (args: readonly string[]) => Promise<number>

/** A command with subcommands, such as `dlq list`. */
export function group(name: string, commands: Readonly<Record<string, Command>>): Command {
  return ([first, ...args]) => {
    if (first === undefined) throw new UsageError(`${name} what? ${Object.keys(commands).join(', ')}.`)
    const command = Object.hasOwn(commands, first) ? commands[first] : undefined
    if (command === undefined) throw new UsageError(`There is no command ${name} ${first}.`)
    return command(args)
  }
}

/** Parses the arguments of a command with one or more words beside its options. @throws {UsageError} */
export function parseMany<const Given extends Options>(args: readonly string[], options: Given) {
  const parsed = read(args, options, true)
  if (parsed.positionals.length === 0) throw new UsageError('Give at least one id or name.')
  return parsed
}

type Options = NonNullable<ParseArgsConfig['options']>

/**
 * Parses the arguments of one command. @param positionals the required number of words beside the options.
 *
 * @throws {UsageError}
 */
export function parse<const Given extends Options>(args: readonly string[], options: Given, positionals = 0) {
  const parsed = read(args, options, positionals > 0)
  if (parsed.positionals.length !== positionals) throw new UsageError('Give just one id, name or file.')
  return parsed
}

/** Parses the arguments of a command with at most one word beside its options. @throws {UsageError} */
export function parseOptional<const Given extends Options>(args: readonly string[], options: Given) {
  const parsed = read(args, options, true)
  if (parsed.positionals.length > 1) throw new UsageError('Give at most one id, name or file.')
  return parsed
}

function read<const Given extends Options>(
  args: readonly string[],
  options: Given,
  allowPositionals: boolean,
) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals, strict: true })
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error })
  }
}
