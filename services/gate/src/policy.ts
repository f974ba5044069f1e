/** The answer for a live token while the gate cannot know the newest logouts: let it pass, refuse it, or ask the issuer. */
export const POLICIES = ['allow', 'deny', 'introspect'] as const
export type Policy = (typeof POLICIES)[number]

export function isPolicy(text: string): text is Policy {
  return (POLICIES as readonly string[]).includes(text)
}

/** Paths for gateways that ask a fixed path. */
const FIXED = '/check'
/** Paths for gateways that append the path of the request, as Envoy does. */
const PREFIX = '/ext_authz'

/**
 * The policy that a path names. A gateway names it by its configuration, so the part of the path that a client chooses must not
 * matter: after a fixed path nothing may follow, and a prefix is followed by anything and always names its policy. The path is
 * compared as it came, without decoding.
 *
 * @returns the policy, `default`, or null if the path is none of the gate.
 */
export function policyOf(url: string): Policy | 'default' | null {
  const [path = ''] = url.split('?', 1)
  if (path === FIXED) return 'default'
  const [, root, name = '', ...rest] = path.split('/')
  const policy = name === 'default' || isPolicy(name) ? name : null
  if (`/${root}` === PREFIX) return policy
  return `/${root}` === FIXED && rest.length === 0 ? policy : null
}
