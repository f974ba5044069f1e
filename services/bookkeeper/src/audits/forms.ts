import { type Token, Tokenizer, TokenizerMode } from 'parse5'

// The forms of an HTML page, as far as a login needs them. Pure.

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

type Tag = Token.TagToken

/** The tags of a form: the form, its fields, and the options of its selects. */
interface FormTags {
  readonly form: Tag
  readonly fields: { readonly tag: Tag; readonly options: Tag[] }[]
}

const FIELDS = new Set(['input', 'button', 'textarea', 'select'])

/** Elements whose content is text, with the state of the tokenizer for it (HTML section 13.2.6.2). */
const TEXT_ELEMENTS: ReadonlyMap<string, Tokenizer['state']> = new Map([
  ...['title', 'textarea'].map((name) => [name, TokenizerMode.RCDATA] as const),
  ...['style', 'xmp', 'iframe', 'noembed', 'noframes', 'noscript'].map(
    (name) => [name, TokenizerMode.RAWTEXT] as const,
  ),
  ['script', TokenizerMode.SCRIPT_DATA],
  ['plaintext', TokenizerMode.PLAINTEXT],
])

/**
 * Reads the forms of a page. It builds no tree of elements: a deep tree takes a time that grows with the square of its depth, and a
 * hostile page would stop every other job of the process.
 *
 * @param url the address of the page.
 */
export function formsOf(html: string, url: string): readonly Form[] {
  const { forms, base } = tagsIn(html)
  const baseUrl = URL.parse(base, url)?.href ?? url
  return forms.flatMap(({ form, fields }): readonly Form[] => {
    const action = URL.parse(attribute(form, 'action') || url, baseUrl)
    if (action === null) return []
    const method = attribute(form, 'method').toLowerCase() === 'post' ? 'POST' : 'GET'
    return [{ action: action.href, method, fields: fields.map(fieldOf) }]
  })
}

function tagsIn(html: string): { readonly forms: readonly FormTags[]; readonly base: string } {
  const forms: FormTags[] = []
  let base = ''
  // As in a browser, a form lasts until its end tag, and a form within a form is ignored (HTML section 13.2.4.4).
  let open: FormTags | null = null
  // The content of a template is not on the page. Inside of an image, tags such as <title/> have no content.
  const depths = { template: 0, svg: 0, math: 0 }
  const isNested = (name: string): name is keyof typeof depths => Object.hasOwn(depths, name)

  const tokenizer = new Tokenizer(
    {},
    {
      onStartTag(tag) {
        const { tagName, selfClosing } = tag
        const isForeign = depths.svg > 0 || depths.math > 0
        const content = TEXT_ELEMENTS.get(tagName)
        if (content !== undefined && !(isForeign && selfClosing)) tokenizer.state = content
        if (isNested(tagName) && !(selfClosing && tagName !== 'template')) depths[tagName] += 1
        if (depths.template > 0) return
        if (tagName === 'base') base ||= attribute(tag, 'href')
        else if (tagName === 'form' && open === null) {
          open = { form: tag, fields: [] }
          forms.push(open)
        } else if (tagName === 'option') open?.fields.at(-1)?.options.push(tag)
        else if (FIELDS.has(tagName) && !has(tag, 'disabled')) open?.fields.push({ tag, options: [] })
      },
      onEndTag({ tagName }) {
        if (isNested(tagName)) depths[tagName] = Math.max(depths[tagName] - 1, 0)
        else if (tagName === 'form' && depths.template === 0) open = null
      },
      onComment: ignore,
      onDoctype: ignore,
      onCharacter: ignore,
      onNullCharacter: ignore,
      onWhitespaceCharacter: ignore,
      onEof: ignore,
    },
  )
  tokenizer.write(html, true)
  return { forms, base }
}

function ignore(): void {
  // Text, comments and the rest have no fields.
}

function fieldOf({ tag, options }: FormTags['fields'][number]): Field {
  const { tagName } = tag
  const given = attribute(tag, 'type').toLowerCase()
  const type = given || (tagName === 'button' ? 'submit' : tagName === 'input' ? 'text' : tagName)
  const chosen = options.find((option) => has(option, 'selected')) ?? options[0]
  const value = tagName === 'select' ? attribute(chosen, 'value') : attribute(tag, 'value')
  return {
    ...{ name: attribute(tag, 'name'), type, value },
    checked: !['checkbox', 'radio'].includes(type) || has(tag, 'checked'),
    autocomplete: attribute(tag, 'autocomplete').toLowerCase(),
  }
}

function attribute(tag: Tag | undefined, name: string): string {
  return tag?.attrs.find((each) => each.name === name)?.value ?? ''
}

function has(tag: Tag, name: string): boolean {
  return tag.attrs.some((each) => each.name === name)
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
