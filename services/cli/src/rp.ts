import { UsageError } from './arguments.ts'
import { probe } from './rp-probe.ts'

const COMMANDS: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = { probe }

/** `curfew rp probe`. @returns the exit status. */
export async function rp([name, ...args]: readonly string[]): Promise<number> {
  if (name === undefined) throw new UsageError('rp probe?')
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (command === undefined) throw new UsageError(`There is no command rp ${name}.`)
  return command(args)
}
