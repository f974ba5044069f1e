/** The size of a JSON text, counted from its bytes without parsing. */
export interface Outline {
  /** Members and elements at all levels. An empty object or array counts as one more. */
  readonly values: number
  /** Elements of the outermost array; 1 if the text is not an array. */
  readonly elements: number
  /** Deepest nesting of arrays and objects. */
  readonly depth: number
}

const QUOTE = 0x22
const COMMA = 0x2c
const BACKSLASH = 0x5c
const ARRAY = 0x5b
const ARRAY_END = 0x5d
const OBJECT = 0x7b
const OBJECT_END = 0x7d

/**
 * Counts the members, elements and levels of a JSON text in UTF-8. A megabyte takes a few milliseconds; a parser may need a
 * hundred times as long. A text that is not JSON has a meaningless outline. Stops at the first nesting deeper than `depthMax`.
 */
export function outlineOf(bytes: Uint8Array, depthMax: number): Outline {
  let values = 1
  let elements = 1
  let depth = 0
  let deepest = 0
  let inArray = false
  let inText = false
  for (let at = 0; at < bytes.length && deepest <= depthMax; at++) {
    const byte = bytes[at]
    if (inText) {
      if (byte === BACKSLASH) at += 1
      else if (byte === QUOTE) inText = false
    } else if (byte === QUOTE) inText = true
    else if (byte === COMMA) {
      values += 1
      if (inArray && depth === 1) elements += 1
    } else if (byte === ARRAY || byte === OBJECT) {
      values += 1
      depth += 1
      if (depth > deepest) deepest = depth
      if (depth === 1) inArray = byte === ARRAY
    } else if (byte === ARRAY_END || byte === OBJECT_END) depth -= 1
  }
  return { values, elements, depth: deepest }
}
