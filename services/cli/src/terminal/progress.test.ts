import { expect, test } from 'vitest'
import { createProgress } from './progress.ts'
import { table } from './table.ts'

// Goal: a terminal shows one growing bar, a file gets few lines, and texts from outside cannot control a terminal.
// Method: screens of both kinds that record the output.

function screen(isTTY: boolean) {
  const written: string[] = []
  return { isTTY, written, write: (text: string) => void written.push(text) }
}

test('on a terminal a changed bar overwrites the whole previous one', () => {
  const terminal = screen(true)
  const progress = createProgress(terminal)
  progress.show(0, 3, 'a long note')
  progress.show(1, 3, 'short')
  progress.show(1, 3, 'short')
  progress.show(3, 3, 'done')
  progress.end()
  expect(terminal.written).toEqual([
    `\r[${'.'.repeat(30)}]   0 %  a long note`,
    `\r[${'#'.repeat(10)}${'.'.repeat(20)}]  33 %  short      `,
    `\r[${'#'.repeat(30)}] 100 %  done `,
    '\n',
  ])
})

test('without a terminal there is one whole line for each tenth', () => {
  const file = screen(false)
  const progress = createProgress(file)
  for (let done = 0; done <= 1_000; done++) progress.show(done, 1_000, '')
  progress.end()
  expect(file.written).toHaveLength(11)
  expect(file.written.every((line) => line.endsWith('\n'))).toBe(true)
})

test('a total of zero is shown as 100 %', () => {
  const file = screen(false)
  createProgress(file).show(0, 0, '')
  expect(file.written).toEqual([`[${'#'.repeat(30)}] 100 %  \n`])
})

test('a table aligns numbers to the right, and has no control characters', () => {
  expect(
    table([
      ['NAME', 'COUNT'],
      ['evil\u001b[2J\r\nname', 7],
      ['b', 12_345],
    ]),
  ).toBe('NAME           COUNT\nevil [2J name      7\nb              12345\n')
})
