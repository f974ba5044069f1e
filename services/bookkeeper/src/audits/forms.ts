import { type DefaultTreeAdapterMap, parse } from 'parse5'

// The forms of an HTML page, as far as a login needs them. Pure.

type Node = DefaultTreeAdapterMap['node']
type Element = DefaultTreeAdapterMap['element']

export interface Field {
  readonly name: string
  /** `hidden`, `text`, `password`, `submit` and so on, in lower case. A button without a type is `submit`. */
  readonly type: string
  readonly value: string
  readonly autocomplete: string
  /** False for a checkbox or radio button that is not checked. */
  readonly checked: boolean
}

export interface Form {
  /** Absolute. */
  readonly action: string
  readonly method: 'GET' | 'POST'
  readonly fields: readonly Field[]
}

/** Parses the forms of a page. @param url the address of the page. */
export function formsOf(html: string, url: string): readonly Form[] {
  const document = parse(html)
  const base = [...elementsIn(document)].find(({ tagName }) => tagName === 'base')
  const baseUrl = URL.parse(attribute(base, 'href'), url)?.href ?? url
  return [...elementsIn(document)].flatMap((form): readonly Form[] => {
    if (form.tagName !== 'form') return []
    const action = URL.parse(attribute(form, 'action') || url, baseUrl)
    if (action === null) return []
    const method = attribute(form, 'method').toLowerCase() === 'post' ? 'POST' : 'GET'
    return [{ action: action.href, method, fields: [...elementsIn(form)].flatMap(fieldsIn) }]
  })
}

function fieldsIn(element: Element): readonly Field[] {
  const { tagName } = element
  if (!['input', 'button', 'textarea', 'select'].includes(tagName) || has(element, 'disabled')) return []
  const given = attribute(element, 'type').toLowerCase()
  const type = given || (tagName === 'button' ? 'submit' : tagName === 'input' ? 'text' : tagName)
  const name = attribute(element, 'name')
  const value = tagName === 'select' ? selected(element) : attribute(element, 'value')
  const checked = !['checkbox', 'radio'].includes(type) || has(element, 'checked')
  return [{ name, type, value, checked, autocomplete: attribute(element, 'autocomplete').toLowerCase() }]
}

function selected(select: Element): string {
  const options = [...elementsIn(select)].filter(({ tagName }) => tagName === 'option')
  return attribute(options.find((option) => has(option, 'selected')) ?? options[0], 'value')
}

function* elementsIn(node: Node): Iterable<Element> {
  if (!('childNodes' in node)) return
  for (const child of node.childNodes) {
    if ('tagName' in child) yield child
    yield* elementsIn(child)
  }
}

function attribute(element: Element | undefined, name: string): string {
  return element?.attrs.find((each) => each.name === name)?.value ?? ''
}

function has(element: Element, name: string): boolean {
  return element.attrs.some((each) => each.name === name)
}

/**
 * The content of a form as a browser submits it.
 *
 * @param values the typed values, by field name.
 * @param button the name of the pressed button. Default: the first one.
 */
export function submissionOf(
  { fields }: Form,
  values: ReadonlyMap<string, string>,
  button?: string,
): URLSearchParams {
  const buttons = fields.filter(({ type }) => type === 'submit' || type === 'image')
  const pressed = buttons.find(({ name }) => name === button) ?? buttons[0]
  const sent = fields.filter(
    (field) =>
      field.name !== '' &&
      field.checked &&
      !['submit', 'image', 'button', 'reset', 'file'].includes(field.type),
  )
  const entries = sent.map(({ name, value, type }) => {
    const filled = values.get(name) ?? value
    // A browser sends `on` for a checkbox without a value.
    return [name, filled === '' && type === 'checkbox' ? 'on' : filled] as [string, string]
  })
  if (pressed !== undefined && pressed.name !== '') entries.push([pressed.name, pressed.value])
  return new URLSearchParams(entries)
}
