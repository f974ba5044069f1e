import { COMMANDS } from '../commands.ts'
import { type Command, command, type Group, group, type Option } from './arguments.ts'

// `curfew completion`: scripts that complete commands, options, listed values and files. They are made from the declarations of the
// commands, so a script needs no running Curfew and no start of the command.

/** A command with the words that name it. */
interface Line {
  readonly group: string | null
  readonly name: string
  readonly command: Command
}

export const completion = group('scripts for the completion of commands in a shell', {
  bash: command(
    { about: 'print the script for bash', options: {}, notes: 'Install: source <(curfew completion bash)' },
    () => print(bashScript),
  ),
  zsh: command(
    {
      about: 'print the script for zsh',
      options: {},
      notes: 'Install, after compinit: source <(curfew completion zsh)',
    },
    () => print(zshScript),
  ),
  fish: command(
    { about: 'print the script for fish', options: {}, notes: 'Install: curfew completion fish | source' },
    () => print(fishScript),
  ),
})

type Declared = Readonly<Record<string, Command | Group>>

async function print(script: (declared: Declared) => string): Promise<number> {
  const entries = Object.entries(COMMANDS).map(async ([name, load]) => [name, await load()] as const)
  process.stdout.write(script(Object.fromEntries(await Promise.all(entries))))
  return 0
}

function linesOf(declared: Declared): readonly Line[] {
  return Object.entries(declared).flatMap(([name, each]): readonly Line[] =>
    'commands' in each
      ? Object.entries(each.commands).map(([own, command]) => ({ group: name, name: own, command }))
      : [{ group: null, name, command: each }],
  )
}

/** The valid values of an option, if its placeholder lists them. */
function choicesOf({ value }: Option): readonly string[] {
  return value.includes('|') ? value.split('|') : []
}

const takesFile = ({ words }: Command) => Object.keys(words).some((word) => word.includes('FILE'))

function groupsOf(declared: Declared): readonly (readonly [name: string, group: Group])[] {
  return Object.entries(declared).flatMap(([name, each]) =>
    'commands' in each ? [[name, each] as const] : [],
  )
}

/** A case for each position of a command line: the first word, the second word of a group, and the options of a command. */
function bashScript(declared: Declared): string {
  const top = [...Object.keys(declared), 'help', '--help', '--version']
  const groups = groupsOf(declared).map(
    ([name, { commands }]) => `    2/${name}/*) words='${Object.keys(commands).join(' ')} --help' ;;\n`,
  )
  const commands = linesOf(declared).map(({ group, name, command }) => {
    const options = Object.entries(command.options)
    const path = group === null ? `${name}/*` : `${group}/${name}`
    const valued = options.filter(([, { kind }]) => kind !== 'flag')
    const values = valued.map(([option, declaredOption]) => {
      const choices = choicesOf(declaredOption)
      if (declaredOption.value === 'FILE') return `        --${option}) files=yes ;;\n`
      return `        --${option}) words='${choices.join(' ')}' ;;\n`
    })
    const names = [...options.map(([option]) => `--${option}`), '--help'].join(' ')
    const rest = `        *) words='${names}'${takesFile(command) ? ' files=yes' : ''} ;;\n`
    return `    */${path})\n      case "$prev" in\n${values.join('')}${rest}      esac ;;\n`
  })
  return `_curfew() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} words='' files=''
  COMPREPLY=()
  case "$COMP_CWORD/\${COMP_WORDS[1]}/\${COMP_WORDS[2]}" in
    1/*) words='${top.join(' ')}' ;;
    2/help/*) words='${Object.keys(declared).join(' ')}' ;;
${groups.join('')}${commands.join('')}  esac
  if [[ $cur == -* || -z $files ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  else
    local IFS=$'\\n'
    COMPREPLY=($(compgen -f -- "$cur"))
    compopt -o filenames 2>/dev/null
  fi
}
complete -F _curfew curfew
`
}

function zshScript(declared: Declared): string {
  const described = (items: readonly (readonly [name: string, about: string])[]) =>
    items.map(([name, about]) => quoted(`${name}:${about}`)).join(' ')
  const top = Object.entries(declared).map(([name, { about }]) => [name, about] as const)
  const groups = groupsOf(declared).map(([name, { commands }]) => {
    const own = Object.entries(commands).map(([each, { about }]) => [each, about] as const)
    return `    2/${name}/*) found=(${described(own)}) ;;\n`
  })
  const commands = linesOf(declared).map(({ group, name, command }) => {
    const options = Object.entries(command.options)
    const path = group === null ? `${name}/*` : `${group}/${name}`
    const values = options
      .filter(([, { kind }]) => kind !== 'flag')
      .map(([option, each]) =>
        each.value === 'FILE'
          ? `        --${option}) _files; return ;;\n`
          : `        --${option}) found=(${choicesOf(each).join(' ')}) ;;\n`,
      )
    const names = described([
      ...options.map(([option, { about }]) => [`--${option}`, about] as const),
      ['--help', 'show this help'],
    ])
    const files = takesFile(command) ? `        [^-]*|'') _files; return ;;\n` : ''
    const rest = `        *) found=(${names}) ;;\n`
    const last =
      files === '' ? rest : `        *) case "$words[CURRENT]" in\n${files}${rest}        esac ;;\n`
    return `    */${path})\n      case "$words[CURRENT-1]" in\n${values.join('')}${last}      esac ;;\n`
  })
  return `#compdef curfew
_curfew() {
  local -a found
  case "$((CURRENT - 1))/$words[2]/$words[3]" in
    1/*) found=(${described([...top, ['help', 'show the help of a command']])}) ;;
    2/help/*) found=(${described(top)}) ;;
${groups.join('')}${commands.join('')}  esac
  _describe curfew found
}
compdef _curfew curfew
`
}

function fishScript(declared: Declared): string {
  const names = Object.keys(declared).join(' ')
  const help = `complete -c curfew -n 'not __fish_seen_subcommand_from help ${names}' -a help -d 'show the help of a command'\n`
  const first = Object.entries(declared).map(
    ([name, { about }]) =>
      `complete -c curfew -n 'not __fish_seen_subcommand_from ${names}' -a ${name} -d ${quoted(about)}\n`,
  )
  const second = groupsOf(declared).flatMap(([name, { commands }]) => {
    const own = Object.keys(commands).join(' ')
    const where = `__fish_seen_subcommand_from ${name}; and not __fish_seen_subcommand_from ${own}`
    return Object.entries(commands).map(
      ([each, { about }]) => `complete -c curfew -n '${where}' -a ${each} -d ${quoted(about)}\n`,
    )
  })
  const options = linesOf(declared).flatMap(({ group, name, command }) => {
    const seen = `__fish_seen_subcommand_from ${name}`
    const where = group === null ? seen : `__fish_seen_subcommand_from ${group}; and ${seen}`
    const own = Object.entries(command.options).map(([option, each]) => {
      const choices = choicesOf(each)
      const value =
        each.kind === 'flag'
          ? ''
          : each.value === 'FILE'
            ? ' -rF'
            : ` -x${choices.length === 0 ? '' : ` -a '${choices.join(' ')}'`}`
      return `complete -c curfew -n '${where}' -l ${option}${value} -d ${quoted(each.about)}\n`
    })
    return takesFile(command) ? [...own, `complete -c curfew -n '${where}' -F\n`] : own
  })
  return `complete -c curfew -f\ncomplete -c curfew -l help -s h -d 'show the help'\n${[help, ...first, ...second, ...options].join('')}`
}

/** A text as one word of a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
