import { chunksOf, readText } from './bounded.ts'

/** Far above the size of a logout request. */
export const BODY_BYTES_MAX = 64 * 1024

export const FORM_TYPE = 'application/x-www-form-urlencoded'

/** The one `logout_token` of a request (Back-Channel Logout 2.5), or the fault of the request. */
export type ReadToken =
  | { readonly ok: true; readonly token: string }
  | { readonly ok: false; readonly description: string; readonly cause?: unknown }

/** Reads the `logout_token` from a form, and ignores other fields (Back-Channel Logout 2.5). Never rejects. */
export async function readLogoutToken(request: Request): Promise<ReadToken> {
  if (!isForm(request.headers.get('content-type'))) return NOT_A_FORM
  if (Number(request.headers.get('content-length') ?? 0) > BODY_BYTES_MAX)
    return fault('the body is too large')
  let body: string
  try {
    body = await readText(chunksOf(request.body), BODY_BYTES_MAX)
  } catch (cause) {
    return { ...fault('the body is too large or cannot be read'), cause }
  }
  return tokenOf(body)
}

/** Reads the `logout_token` of a body that was read already. @param contentType the header of the request. */
export function readLogoutForm(contentType: string | null | undefined, body: string): ReadToken {
  return isForm(contentType) ? tokenOf(body) : NOT_A_FORM
}

function isForm(contentType: string | null | undefined): boolean {
  const [type = ''] = (contentType ?? '').split(';')
  return type.trim().toLowerCase() === FORM_TYPE
}

function tokenOf(body: string): ReadToken {
  const [token, ...others] = new URLSearchParams(body).getAll('logout_token')
  if (!token) return fault('logout_token is missing')
  return others.length > 0 ? fault('logout_token is present more than once') : { ok: true, token }
}

const NOT_A_FORM = fault(`the body is not ${FORM_TYPE}`)

function fault(description: string) {
  return { ok: false as const, description }
}
