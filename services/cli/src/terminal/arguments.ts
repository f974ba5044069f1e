/**
 * Wrong usage: the arguments are invalid, the server finds the request invalid, or a named file cannot be read. The command exits
 * with status 2. Any other error exits with 1.
 */
export class UsageError extends Error {}

/** An option of a command. The placeholder names its value; one such as `a|b` lists the valid values. */
export interface Option {
  readonly kind: 'text' | 'texts' | 'flag'
  readonly value: string
  readonly about: string
  /** The part of the help that lists the option. */
  readonly heading?: string
}

export type Options = Readonly<Record<string, Option>>

type ValueOf<Declared extends Option> = Declared['kind'] extends 'flag'
  ? boolean
  : Declared['kind'] extends 'texts'
    ? string[]
    : string

/** The parsed arguments of a command. */
export interface Given<Declared extends Options = Options> {
  readonly values: { readonly [Name in keyof Declared]?: ValueOf<Declared[Name]> }
  /** The words that are not options. */
  readonly positionals: readonly string[]
}

/** Runs a command. @returns the exit status. */
export type Run<Declared extends Options> = (given: Given<Declared>) => Promise<number>

/** The declaration of a command: the source of its parser, its help and its completion. */
export interface Command {
  readonly about: string
  /** The words beside the options by placeholder: `<ID>` is required, `[FILE]` is optional, `<IDs...>` may be repeated. */
  readonly words: Readonly<Record<string, string>>
  readonly options: Options
  /** Sentences at the end of the help. */
  readonly notes: string
  /** Command lines. */
  readonly examples: readonly string[]
  readonly run: Run<Options>
}

/** Commands with a common first word, such as `dlq list` and `dlq show`. */
export interface Group {
  readonly about: string
  readonly commands: Readonly<Record<string, Command>>
}

/** Declares a command. */
export function command<const Declared extends Options>(
  declared: {
    readonly about: string
    readonly words?: Command['words']
    readonly options: Declared
    readonly notes?: string
    readonly examples?: readonly string[]
  },
  run: Run<Declared>,
): Command {
  // The parser yields just the values that the options declare.
  return { words: {}, notes: '', examples: [], ...declared, run: run as Run<Options> }
}

/** Declares commands with a common first word. */
export function group(about: string, commands: Group['commands']): Group {
  return { about, commands }
}

/** An option with a value. */
export function text(value: string, about: string) {
  return { kind: 'text', value, about } as const
}

/** An option with a value that may be repeated. */
export function texts(value: string, about: string) {
  return { kind: 'texts', value, about: `${about}; may be repeated` } as const
}

/** An option without a value. */
export function flag(about: string) {
  return { kind: 'flag', value: '', about } as const
}
