import { expect, test } from 'vitest'
import { policyOf } from './policy.ts'

// Goal: the configuration of the gateway alone chooses the policy, whatever path a client sends.
// Method: fixed paths, prefixes with hostile rests, and near misses.

test.each([
  ['/check', 'default'],
  ['/check?policy=allow', 'default'],
  ['/check/allow', 'allow'],
  ['/check/deny?x=/check/allow', 'deny'],
  ['/check/introspect', 'introspect'],
  ['/check/default', 'default'],
])('%s names %s', (path, policy) => {
  expect(policyOf(path)).toBe(policy)
})

test.each([
  ['', 'default'],
  ['/', 'default'],
  ['/allow', 'default'],
  ['/../allow', 'default'],
  ['/..%2fallow/x', 'default'],
  ['//check/allow', 'default'],
  ['?/../allow', 'default'],
])('after the prefix /ext_authz/default the rest %s changes nothing', (rest, policy) => {
  expect(policyOf(`/ext_authz/default${rest}`)).toBe(policy)
})

test.each([
  ...[
    '',
    '/',
    '*',
    '/check/',
    '/check/allow/',
    '/check/allow/x',
    '/check/..',
    '/check/Allow',
    '/check/constructor',
  ],
  ...[
    '/Check',
    '//check',
    '/check%2Fallow',
    '/checkallow',
    '/ext_authz',
    '/ext_authz/',
    '/ext_authz/x/allow',
  ],
  ...['/ext_authz/denyallow', '/ext_authz//allow', 'http://gate/check', '/a/check'],
])('%s is no question', (path) => {
  expect(policyOf(path)).toBeNull()
})
