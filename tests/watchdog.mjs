// SPDX-License-Identifier: BSL-1.0
//
// To be imported by a test that may hang: HAILWIRE_TEST_SECONDS after its start (CTest's own limit comes some seconds later) it
// says which test runs and what Node.js waits for, ends the processes that were started, and exits with 1.

import { readFileSync, readdirSync } from 'node:fs';
import { beforeEach } from 'node:test';

const seconds = Number(process.env.HAILWIRE_TEST_SECONDS ?? 110);
let running = 'none: before the first, or behind the last';
beforeEach((context) => { running = context?.name ?? 'unknown'; });

/** All processes below `pid`. */
function children_of(pid) {
  const found = [];
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      for (const child of readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean)) found.push(child, ...children_of(child));
    } catch { /* it has ended */ }
  }
  return found;
}

setTimeout(() => {
  const waits = {};
  for (const kind of process.getActiveResourcesInfo()) waits[kind] = (waits[kind] ?? 0) + 1;
  console.error(`\nthe watchdog: not ended after ${seconds} s; the test: ${running}; Node.js waits for ${JSON.stringify(waits)}`);
  for (const child of children_of(process.pid)) {
    console.error(`  a process that was started: ${readFileSync(`/proc/${child}/cmdline`, 'utf8').replaceAll('\0', ' ').slice(0, 200)}`);
    try { process.kill(Number(child), 'SIGKILL'); } catch { /* it has ended */ }
  }
  process.exit(1);
}, seconds * 1000).unref();
