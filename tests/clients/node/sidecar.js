'use strict';
// A sidecar with the configuration of `layotto init`, on free ports, with data of its own.
// LAYOTTO_BINARY names the program.

const { execFile, spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs/promises');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { setTimeout: delay } = require('node:timers/promises');
const { promisify } = require('node:util');

/** How long anything that is waited for may take, in milliseconds. */
const LIMIT = 20_000;
/** Of `layotto init`: runtime API, actuator, metrics. */
const PORTS = [34904, 34999, 34903];

class Sidecar {
  #process;
  #folder;
  #actuator;
  #log = '';

  /**
   * Starts a sidecar and waits until it is ready. `callback` is the application's port, `service`
   * the port that InvokeService calls, `env` adds to the environment.
   */
  static async start({ callback = 0, service = 0, env = {} } = {}) {
    const sidecar = new Sidecar();
    try {
      await sidecar.#start(callback, service, env);
    } catch (error) {
      await sidecar.#discard();
      throw new Error(`${error.message}\n${sidecar.#log}`, { cause: error });
    }
    return sidecar;
  }

  async #start(callback, service, env) {
    const binary = process.env.LAYOTTO_BINARY;
    if (!binary) throw new Error('LAYOTTO_BINARY is not set');
    this.#folder = await fs.mkdtemp(path.join(os.tmpdir(), 'layotto-clients-'));
    const config = path.join(this.#folder, 'config.json');
    await promisify(execFile)(binary, ['init', config]);
    const ports = await freePorts(PORTS.length);
    [this.port, this.#actuator] = ports;
    let text = await fs.readFile(config, 'utf8');
    PORTS.forEach((port, index) => {
      text = replaced(text, String(port), String(ports[index]));
    });
    text = replaced(text, '"grpc_callback_port": 0', `"grpc_callback_port": ${callback}`);
    if (service !== 0) {
      const channel = JSON.stringify({ protocol: 'http', listener: `127.0.0.1:${service}` });
      text = replaced(text, '"hellos":', `"rpcs": { "mosn": { "config": { "channel": [${channel}] } } }, "hellos":`);
    }
    await fs.writeFile(config, text);
    this.#spawn(binary, config, env);
    await this.#until(async () => (await fetch(this.#url('/actuator/health/readiness'))).ok);
  }

  #spawn(binary, config, env) {
    this.#process = spawn(binary, ['start', '-c', config], {
      cwd: this.#folder,
      env: { ...process.env, LAYOTTO_DATA_DIR: path.join(this.#folder, 'data'), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream.setEncoding('utf8').on('data', chunk => { this.#log += chunk; });
    }
  }

  /** What the actuator answers, as JSON. */
  async actuator(target) {
    return (await fetch(this.#url(target))).json();
  }

  /** Waits until the application gets exactly these topics. */
  async subscribed(topics) {
    const wanted = JSON.stringify([...topics].sort());
    await this.#until(async () => {
      const { subscriptions } = await this.actuator('/actuator/info');
      return JSON.stringify(subscriptions.map(({ topic }) => topic).sort()) === wanted;
    });
  }

  /** Ends the sidecar in order; fails if it does not end well. */
  async stop() {
    this.#process.kill('SIGTERM');
    const [code] = await exit(this.#process);
    await fs.rm(this.#folder, { recursive: true });
    if (code !== 0) throw new Error(`the sidecar ended with ${code}\n${this.#log}`);
  }

  async #discard() {
    if (this.#process) {
      this.#process.kill('SIGKILL');
      await exit(this.#process);
    }
    if (this.#folder) await fs.rm(this.#folder, { recursive: true });
  }

  async #until(isTrue) {
    const end = Date.now() + LIMIT;
    let reason = 'not yet';
    while (Date.now() < end) {
      if (this.#process.exitCode !== null) throw new Error(`the sidecar ended with ${this.#process.exitCode}`);
      try {
        if (await isTrue()) return;
      } catch (error) {
        reason = error;
      }
      await delay(50);
    }
    throw new Error(`waited in vain: ${reason}\n${this.#log}`);
  }

  #url(target) {
    return `http://127.0.0.1:${this.#actuator}${target}`;
  }
}

async function exit(child) {
  if (child.exitCode !== null || child.signalCode !== null) return [child.exitCode];
  return once(child, 'exit');
}

function replaced(text, from, to) {
  if (!text.includes(from)) throw new Error(`the configuration has no ${from}`);
  return text.replaceAll(from, to);
}

/** Ports that nobody listens on, all different. */
async function freePorts(count) {
  const servers = Array.from({ length: count }, () => net.createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map(server => once(server, 'listening')));
  const ports = servers.map(server => server.address().port);
  await Promise.all(servers.map(server => promisify(server.close.bind(server))()));
  return ports;
}

/** Things that arrive one by one, to be waited for. */
class Inbox {
  #arrived = [];
  #waiting = [];

  put(thing) {
    const next = this.#waiting.shift();
    if (next) next(thing);
    else this.#arrived.push(thing);
  }

  /** The next thing; fails when none comes in time. */
  async take() {
    if (this.#arrived.length > 0) return this.#arrived.shift();
    const limit = new AbortController();
    const late = delay(LIMIT, undefined, { signal: limit.signal }).then(() => { throw new Error('nothing arrived'); });
    late.catch(() => {});
    try {
      return await Promise.race([late, new Promise(resolve => this.#waiting.push(resolve))]);
    } finally {
      limit.abort();
    }
  }

  get isEmpty() {
    return this.#arrived.length === 0;
  }
}

module.exports = { LIMIT, Inbox, Sidecar, freePorts };
