import { type ParseArgsConfig, parseArgs } from 'node:util'

/**
 * What is asked for cannot be understood, here or by the server, or names a file that cannot be read. Exit status 2; whatever else
 * is thrown is 1.
 */
export class UsageError extends Error {}

export type Command = (args: readonly string[]) => Promise<number>

/** A command that has commands of its own, such as `dlq list`. */
export function group(name: string, commands: Readonly<Record<string, Command>>): Command {
  return ([first, ...args]) => {
    if (first === undefined) throw new UsageError(`${name} what? ${Object.keys(commands).join(', ')}.`)
    const command = Object.hasOwn(commands, first) ? commands[first] : undefined
    if (command === undefined) throw new UsageError(`There is no command ${name} ${first}.`)
    return command(args)
  }
}

/** Reads the arguments of a command that takes one word or more beside its options. @throws {UsageError} */
export function parseMany<const Given extends Options>(args: readonly string[], options: Given) {
  const parsed = read(args, options, true)
  if (parsed.positionals.length === 0) throw new UsageError('Which ones? Give at least one.')
  return parsed
}

type Options = NonNullable<ParseArgsConfig['options']>

/**
 * Reads the arguments of one command. @param positionals how many words there must be beside the options.
 *
 * @throws {UsageError}
 */
export function parse<const Given extends Options>(args: readonly string[], options: Given, positionals = 0) {
  const parsed = read(args, options, positionals > 0)
  if (parsed.positionals.length !== positionals) throw new UsageError('Which one? Give just one.')
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
