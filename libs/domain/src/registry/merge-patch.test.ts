import fc from 'fast-check'
import { expect, test } from 'vitest'
import { mergePatch } from './merge-patch.ts'

// Goal: a patch follows RFC 7396, for any document.
// Method: the examples of its appendix A, and properties.

test.each([
  [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
  [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
  [{ a: 'b' }, { a: null }, {}],
  [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
  [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
  [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
  [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
  [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
  [
    ['a', 'b'],
    ['c', 'd'],
    ['c', 'd'],
  ],
  [{ a: 'b' }, ['c'], ['c']],
  [{ a: 'foo' }, null, null],
  [{ a: 'foo' }, 'bar', 'bar'],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: 'b', c: null }, { a: 'b' }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
])('RFC 7396 A: %j patched by %j is %j', (target, patch, result) => {
  expect(mergePatch(target, patch)).toEqual(result)
})

const object = fc.dictionary(fc.string({ maxLength: 4 }), fc.jsonValue({ maxDepth: 2 }))

test('an empty patch changes nothing, and a repeated patch changes nothing more', () => {
  fc.assert(
    fc.property(object, object, (target, patch) => {
      expect(mergePatch(target, {})).toEqual(target)
      const once = mergePatch(target, patch)
      expect(mergePatch(once, patch)).toEqual(once)
    }),
  )
})

test('a patch changes neither argument, and treats __proto__ as an ordinary member', () => {
  const target = { a: { b: 1 } }
  const patch = JSON.parse('{ "__proto__": { "polluted": true }, "a": { "c": 2 } }') as object
  const merged = mergePatch(target, patch) as Record<string, unknown>
  expect(Object.hasOwn(merged, '__proto__')).toBe(true)
  expect(merged.polluted).toBeUndefined()
  expect(target).toEqual({ a: { b: 1 } })
})
