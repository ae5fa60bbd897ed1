#!/usr/bin/env node
import { run } from './program.js';
import { terminalOf } from './terminal/terminal.js';

process.exitCode = await run(process.argv.slice(2), terminalOf(process));
