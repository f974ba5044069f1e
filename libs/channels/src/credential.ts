import type { Answer } from '@curfew/domain'

/**
 * Masks the credential of the request in the body of the answer, plain or with JSON escapes. The body is stored and shown.
 */
export function withoutCredential(answer: Answer, credential: string | null): Answer {
  if (answer.kind !== 'response' || answer.body === '' || credential === null || credential === '')
    return answer
  return { ...answer, body: answer.body.replace(spellingsOf(credential), '[credential]') }
}

/** Matches a text of printable ASCII with any JSON escapes (RFC 8259 section 7). Encoders escape different characters. */
function spellingsOf(text: string): RegExp {
  const characters = [...text].map((character) => {
    const code = character.charCodeAt(0).toString(16).padStart(2, '0')
    return `(?:\\\\?\\x${code}|\\\\u00${code})`
  })
  return new RegExp(characters.join(''), 'gi')
}
