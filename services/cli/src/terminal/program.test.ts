import { describe, expect, test } from 'vitest'
import { command, group, text } from './arguments.ts'
import { createProgram, parseArguments } from './program.ts'

// Goal: a command line that says two things is refused.

/** Runs `curfew rp list` with these options. @returns the values that the command got. */
async function valuesOf(...args: readonly string[]): Promise<object> {
  let got: object = {}
  const options = {
    issuer: text('NAME', 'the issuer'),
    client: { ...text('ID', 'a client'), kind: 'texts' },
  } as const
  const list = command({ about: 'list', options }, async ({ values }) => {
    got = values
    return 0
  })
  const named = { path: '' }
  const program = createProgram(
    { rp: group('relying parties', { list }) },
    { version: '0', epilogue: '', named, onStatus: () => undefined },
  )
  await parseArguments(program, ['rp', 'list', ...args])
  return got
}

describe('an option that is given twice', () => {
  test('is refused if it takes one value', async () => {
    await expect(valuesOf('--issuer', 'a', '--issuer', 'b')).rejects.toThrow(
      "Option '--issuer <NAME>' argument 'b' is invalid. The option takes one value, and is given twice.",
    )
    await expect(valuesOf('--issuer', '', '--issuer=b')).rejects.toThrow(/given twice/)
    expect(await valuesOf('--issuer', 'a')).toEqual({ issuer: 'a' })
  })

  test('keeps all values if it takes several', async () => {
    expect(await valuesOf('--client', 'a', '--client', 'b')).toEqual({ client: ['a', 'b'] })
  })
})
