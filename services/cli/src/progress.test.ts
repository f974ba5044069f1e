import { expect, test } from 'vitest'
import { createProgress } from './progress.ts'
import { table } from './table.ts'

// Goal: a terminal shows one bar that grows, a file gets few lines, and nothing from outside can command a terminal.
// Method: both kinds of screen, kept as text.

function screen(isTTY: boolean) {
  const written: string[] = []
  return { isTTY, written, write: (text: string) => void written.push(text) }
}

test('on a terminal the bar is drawn over itself, all of it, and only when it has changed', () => {
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

test('elsewhere there is a line for each tenth, and none is torn', () => {
  const file = screen(false)
  const progress = createProgress(file)
  for (let done = 0; done <= 1_000; done++) progress.show(done, 1_000, '')
  progress.end()
  expect(file.written).toHaveLength(11)
  expect(file.written.every((line) => line.endsWith('\n'))).toBe(true)
})

test('nothing to do is done', () => {
  const file = screen(false)
  createProgress(file).show(0, 0, '')
  expect(file.written).toEqual([`[${'#'.repeat(30)}] 100 %  \n`])
})

test('a table has its numbers to the right, and no words that a terminal would obey', () => {
  expect(
    table([
      ['NAME', 'COUNT'],
      ['evil\u001b[2J\r\nname', 7],
      ['b', 12_345],
    ]),
  ).toBe('NAME           COUNT\nevil [2J name      7\nb              12345\n')
})
