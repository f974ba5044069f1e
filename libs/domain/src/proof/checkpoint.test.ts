import { describe, expect, test } from 'vitest'
import { checkpointText, isLogName, noteText, parseCheckpointText, parseNote } from './checkpoint.ts'

// Goal: witnesses can read our checkpoints, and Curfew refuses text that is no checkpoint.
// Method: the examples of C2SP tlog-checkpoint and tlog-cosignature, and the forms that they forbid.

const TEXT = 'example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n'
const LOG = 'Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8='
const WITNESS =
  'jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=='
const NOTE = `${TEXT}\n— example.com/behind-the-sofa ${LOG}\n— witness.example.com/w1 ${WITNESS}\n`

describe('a checkpoint', () => {
  test('is parsed with the signatures of its log and of witnesses, and written as the same text', () => {
    const note = parseNote(NOTE)
    expect(note).toEqual({
      text: TEXT,
      signatures: [
        { name: 'example.com/behind-the-sofa', signature: LOG },
        { name: 'witness.example.com/w1', signature: WITNESS },
      ],
    })
    const checkpoint = parseCheckpointText(TEXT)
    expect(checkpoint).toEqual({
      origin: 'example.com/behind-the-sofa',
      size: 20_852_163,
      root: 'CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=',
    })
    expect(checkpoint && checkpointText(checkpoint)).toBe(TEXT)
    expect(note && noteText(note)).toBe(NOTE)
  })

  test('may have extension lines', () => {
    expect(parseCheckpointText(`${TEXT}anything\n`)?.size).toBe(20_852_163)
  })

  const [origin = '', size = '', root = ''] = TEXT.split('\n')
  test.each([
    ['no origin', `\n${size}\n${root}\n`],
    ['a leading zero', `${origin}\n0${size}\n${root}\n`],
    ['a size that is no number', `${origin}\n-1\n${root}\n`],
    ['a size that no number holds', `${origin}\n9007199254740993\n${root}\n`],
    ['a root that is too short', `${origin}\n${size}\n${root.slice(4)}\n`],
    ['a root in non-canonical base64', `${origin}\n${size}\n${root.replace('2I=', '2J=')}\n`],
    ['an empty line', `${TEXT}\nmore\n`],
    ['no line feed at its end', TEXT.slice(0, -1)],
    ['only a name', `${origin}\n`],
  ])('with %s is refused', (_, text) => {
    expect(parseCheckpointText(text)).toBeNull()
  })

  test.each([
    ['no signature', `${TEXT}\n`],
    ['no empty line', NOTE.replace('\n\n', '\n')],
    ['a hyphen for the dash', NOTE.replace('— example', '- example')],
    ['a signature that is no base64', NOTE.replace(LOG, `${LOG.slice(0, -4)}!!!!`)],
    ['a name with a plus', NOTE.replace('— example.com/', '— example.com+')],
    ['a control character', NOTE.replace('20852163', '20852163\r')],
    ['text after the last line', `${NOTE}x`],
  ])('in a note with %s is refused', (_, note) => {
    expect(parseNote(note)).toBeNull()
  })
})

test('a log name is valid if signature lines can contain it', () => {
  expect(['curfew.example/log', 'a'].every(isLogName)).toBe(true)
  expect(['', 'two words', 'a+b', 'a\nb', 'x'.repeat(256)].some(isLogName)).toBe(false)
})
