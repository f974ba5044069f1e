import chromium from '@sparticuz/chromium'
import { type Browser, chromium as driver } from 'playwright-core'

/** Starts a real browser: on Linux the Chromium from npm, elsewhere the installed Chrome. */
export async function openChromium(): Promise<Browser> {
  if (process.platform !== 'linux') return driver.launch({ channel: 'chrome' })
  return driver.launch({ executablePath: await chromium.executablePath(), args: chromium.args })
}
