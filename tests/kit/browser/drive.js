// Drives a headless Chromium: reads a command a line from standard input, as JSON, and answers each with a line.
//
//   {"do": "open", "url", "width", "height", "scheme"}   opens a page in a new tab, in the colours of the scheme
//   {"do": "look", "script"}                             the value of an expression in the page
//   {"do": "press", "key"}                               presses a key, such as Tab
//   {"do": "check"}                                      what axe-core finds wrong, a text each
//   {"do": "picture", "file"}                            a screenshot of the window
//   {"do": "complaints"}                                 what the page has written as errors, and clears that

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const [profile] = process.argv.slice(2);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const axe = readFileSync(here('node_modules/axe-core/axe.min.js'), 'utf8');

const context = await chromium.launchPersistentContext(profile, {
  executablePath: here('chromium'),
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
let page = null;
let devtools = null;
let complaints = [];

// The page's own policy forbids `eval`, and so what `page.evaluate` would do.
async function look(expression) {
  const { result, exceptionDetails } =
    await devtools.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  return result.value;
}

const commands = {
  async open({ url, width, height, scheme }) {
    const before = page;
    page = await context.newPage();
    await before?.close();
    devtools = await context.newCDPSession(page);
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: scheme });
    await page.goto(url);
  },
  look: ({ script }) => look(script),
  press: ({ key }) => page.keyboard.press(key),
  async check() {
    await look(`${axe}; undefined`);
    const violations = await look('axe.run().then(({ violations }) => violations)');
    return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(' ')}`);
  },
  picture: ({ file }) => page.screenshot({ path: file }).then(() => null),
  complaints() {
    const all = complaints;
    complaints = [];
    return all;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  console.log(JSON.stringify({ value: await commands[command.do](command) }));
}
await context.close();
