import { expect, test } from 'vitest'
import { formsOf, submissionOf } from './forms.ts'

const URL = 'https://idp.example/login'
const namesIn = (html: string) => formsOf(html, URL).map(({ fields }) => fields.map(({ name }) => name))
const BYTES = 512 * 1024

test('a form has the fields up to its end tag, the base of the page and the chosen options', () => {
  const [form, ...more] = formsOf(
    `<base href="/auth/"><table><form action="in?x=1&amp;y=2" method="POST"><tr><td><input name="user" value="a&amp;b">
     <select name="realm"><option value="1"><option selected value="2"></select><input name="off" disabled>
     <input type="checkbox" name="stay" checked><input type="radio" name="kind"><button name="go" value="yes"></table></form>
     <input name="outside">`,
    URL,
  )
  expect(more).toEqual([])
  expect(form).toMatchObject({ action: 'https://idp.example/auth/in?x=1&y=2', method: 'POST' })
  expect(submissionOf(form as NonNullable<typeof form>, new Map([['user', 'bob']])).toString()).toBe(
    'user=bob&realm=2&stay=on&go=yes',
  )
})

test.each([
  ['a script', '<script>"<form><input name=x></form>"</script>'],
  ['a comment', '<!-- <form><input name=x></form> -->'],
  ['a text field', '<textarea><form><input name=x></form></textarea>'],
  ['a template', '<template><form><input name=x></form></template>'],
  ['an element for browsers without scripts', '<noscript><form><input name=x></form></noscript>'],
])('markup in %s is no form', (_place, html) => {
  expect(namesIn(`${html}<form><input name="real"></form>`)).toEqual([['real']])
})

test('an empty title of an image does not hide the rest of the page', () => {
  expect(namesIn('<svg><title/><style/></svg><form><input name="a"></form>')).toEqual([['a']])
})

test('a form within a form is ignored, and its fields belong to the outer one', () => {
  expect(namesIn('<form><form><input name="a"><input name="b"></form>')).toEqual([['a', 'b']])
})

test.each([
  ['deep', '<div>'],
  ['deep and closed in the wrong order', '<div></p>'],
  ['of nested tables', '<table><tr><td>'],
])('a hostile page, %s, is read in a time that grows with its length only', (_kind, part) => {
  const cpuMs = () => process.cpuUsage().user / 1_000
  const startedMs = cpuMs()
  expect(formsOf(`${part.repeat(BYTES / part.length)}<form></form>`, URL)).toHaveLength(1)
  // A tree of elements takes many seconds, and overflows the stack.
  expect(cpuMs() - startedMs).toBeLessThan(2_000)
})
