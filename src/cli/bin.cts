#!/usr/bin/env node
/** The program's first lines. Engines run on libuv's threads, of which there are four unless this variable says otherwise
 * before the first is needed. CommonJS, because Node's loader of ES modules needs them.
 * MiniLM in 16 streams on 16 cores is 2.3x slower with four. */
process.env['UV_THREADPOOL_SIZE'] ??= String(process.getBuiltinModule('node:os').availableParallelism() + 4)
void import('./main.ts')
