import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openChromium } from '../support/chromium.ts'
import { type Curfew, openCurfew } from '../support/curfew.ts'

// Goal: a person can read and try the API in a browser without access to the internet.

let browser: Browser
let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
  browser = await openChromium()
})
afterAll(async () => {
  await browser?.close()
  await curfew?.[Symbol.asyncDispose]()
})

test('/ describes Curfew and links to the page of the API, which lists the operations and tries one', async () => {
  const page = await browser.newPage()
  const requested: string[] = []
  const faults: string[] = []
  page.on('request', (request) => void requested.push(request.url()))
  page.on('pageerror', (error) => void faults.push(error.message))
  // A violation of the Content-Security-Policy is an error in the console of the browser.
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()))
  await page.goto(new URL('/', curfew.url).href)
  expect(await page.textContent('body')).toContain('delivers the logouts of an identity provider')
  await page.click('a[href="/docs"]')
  await page.getByText('Post a logout event, or an array of up to 1,000.').click()
  await page.locator('#operations-Logout_events-postLogoutEvents').getByText('Execute').click()
  // Without a key the API refuses.
  await page.getByText('Unauthorized').first().waitFor()
  expect(requested.filter((url) => !url.startsWith(curfew.url) && !url.startsWith('data:'))).toEqual([])
  expect(faults.filter((text) => !text.includes('401'))).toEqual([])
}, 120_000)
