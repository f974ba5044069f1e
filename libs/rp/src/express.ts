/** Creates a handler for Express 4 and 5: `app.all(path, expressLogoutHandler(receiver))`, before or after any body parser. */
export { nodeLogoutHandler as expressLogoutHandler } from './node.ts'
