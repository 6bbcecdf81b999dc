'use strict';
// Every building block that the client reaches, by its own methods or by its generated stub.

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { constants } = require('node:fs');
const http = require('node:http');
const { Readable } = require('node:stream');
const { after, before, describe, test } = require('node:test');
const { setTimeout: delay } = require('node:timers/promises');

const { Client, RuntimeTypes } = require('layotto');

const { LIMIT, Inbox, Sidecar } = require('./sidecar');

/** gRPC status codes. */
const INVALID_ARGUMENT = 3;
const NOT_FOUND = 5;
const ABORTED = 10;
const UNAVAILABLE = 14;
/** Outcomes of an unlock. */
const SUCCESS = 0;
const LOCK_UNEXIST = 1;
const LOCK_BELONG_TO_OTHERS = 2;

let service;
let sidecar;
let client;

before(async () => {
  service = await startService();
  sidecar = await Sidecar.start({
    service: service.address().port,
    env: { LAYOTTO_TEST_SECRET: 'hush' },
  });
  client = new Client(String(sidecar.port));
});

after(async () => {
  client?.close();
  await sidecar?.stop();
  service?.closeAllConnections();
  service?.close();
});

/** A service that tells what it was asked. */
async function startService() {
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { pathname } = new URL(request.url, 'http://localhost');
    if (pathname === '/text') {
      response.setHeader('content-type', 'text/plain; charset=utf-8').end('grüße');
    } else if (pathname === '/missing') {
      response.writeHead(404).end('no such thing');
    } else {
      const { method, url, headers } = request;
      const answer = { method, url, id: headers.id, type: headers['content-type'], body: Buffer.concat(chunks).toString() };
      response.setHeader('content-type', 'application/json').end(JSON.stringify(answer));
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** Calls a method that the library only has in its stub. */
function call(method, request) {
  return new Promise((resolve, reject) => {
    client._runtime[method](request, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

const text = bytes => Buffer.from(bytes).toString();

describe('hello', () => {
  test('greets', async () => {
    assert.equal(await client.hello.sayHello(), 'greeting');
    assert.equal(await client.hello.sayHello({ name: 'node' }), 'greeting, node');
  });

  test('does not know other names', async () => {
    await assert.rejects(client.hello.sayHello({ serviceName: 'other' }), { code: INVALID_ARGUMENT });
  });
});

describe('state', () => {
  const storeName = 'state_demo';
  const get = key => client.state.get({ storeName, key });

  test('saves, replaces, gets and deletes', async () => {
    const bytes = Buffer.from([0, 1, 255]);
    await client.state.save({ storeName, states: { key: 'plain', value: 'first' } });
    assert.equal(text((await get('plain')).value), 'first');
    await client.state.save({ storeName, states: [{ key: 'plain', value: 'second' }, { key: 'bytes', value: bytes }] });
    assert.equal(text((await get('plain')).value), 'second');
    assert.deepEqual(Buffer.from((await get('bytes')).value), bytes);
    await client.state.delete({ storeName, key: 'plain' });
    assert.equal(await get('plain'), null);
  });

  test('a write with an etag needs the current one', async () => {
    await client.state.save({ storeName, states: { key: 'guarded', value: 'first' } });
    const { etag } = await get('guarded');
    await client.state.save({ storeName, states: { key: 'guarded', value: 'second', etag } });
    const stale = { key: 'guarded', value: 'third', etag };
    await assert.rejects(client.state.save({ storeName, states: stale }), { code: ABORTED });
    assert.equal(text((await get('guarded')).value), 'second');
    await assert.rejects(client.state.delete({ storeName, key: 'guarded', etag }), { code: ABORTED });
    await client.state.delete({ storeName, key: 'guarded', etag: (await get('guarded')).etag });
    assert.equal(await get('guarded'), null);
  });

  test('the first write wins where that is asked for', async () => {
    const options = {
      concurrency: RuntimeTypes.StateOptions.StateConcurrency.CONCURRENCY_FIRST_WRITE,
      consistency: RuntimeTypes.StateOptions.StateConsistency.CONSISTENCY_STRONG,
    };
    await client.state.save({ storeName, states: { key: 'once', value: 'first', options } });
    await assert.rejects(client.state.save({ storeName, states: { key: 'once', value: 'second', options } }), { code: ABORTED });
    assert.equal(text((await get('once')).value), 'first');
  });

  test('many keys at once', async () => {
    const states = ['a', 'b', 'c'].map(key => ({ key: `bulk-${key}`, value: key }));
    await client.state.save({ storeName, states });
    const keys = [...states.map(({ key }) => key), 'bulk-missing'];
    const found = await client.state.getBulk({ storeName, keys, parallelism: 2 });
    const values = Object.fromEntries(found.map(({ key, value }) => [key, text(value)]));
    assert.deepEqual(values, { 'bulk-a': 'a', 'bulk-b': 'b', 'bulk-c': 'c' });
    await client.state.deleteBulk({ storeName, states: [{ key: 'bulk-a' }, { key: 'bulk-b' }] });
    const left = await client.state.getBulk({ storeName, keys });
    assert.deepEqual(left.map(({ key }) => key), ['bulk-c']);
  });

  test('a transaction happens in full or not at all', async () => {
    await client.state.save({ storeName, states: [{ key: 'tx-old', value: 'old' }, { key: 'tx-kept', value: 'kept' }] });
    const stale = (await get('tx-kept')).etag;
    await client.state.executeTransaction({
      storeName,
      operations: [
        { operationType: 'upsert', request: { key: 'tx-new', value: 'new' } },
        { operationType: 'upsert', request: { key: 'tx-kept', value: 'changed', etag: stale } },
        { operationType: 'delete', request: { key: 'tx-old' } },
      ],
    });
    assert.equal(text((await get('tx-new')).value), 'new');
    assert.equal(text((await get('tx-kept')).value), 'changed');
    assert.equal(await get('tx-old'), null);
    const refused = client.state.executeTransaction({
      storeName,
      operations: [
        { operationType: 'delete', request: { key: 'tx-new' } },
        { operationType: 'upsert', request: { key: 'tx-kept', value: 'lost', etag: stale } },
      ],
    });
    await assert.rejects(refused);
    assert.equal(text((await get('tx-new')).value), 'new');
    assert.equal(text((await get('tx-kept')).value), 'changed');
  });

  test('a store that is not configured is refused', async () => {
    await assert.rejects(client.state.get({ storeName: 'other', key: 'k' }), { code: INVALID_ARGUMENT });
  });
});

describe('lock', () => {
  const storeName = 'lock_demo';
  const tryLock = (resourceId, lockOwner, expire = 60) => client.lock.tryLock({ storeName, resourceId, lockOwner, expire });
  const unLock = (resourceId, lockOwner) => client.lock.unLock({ storeName, resourceId, lockOwner });

  test('only the owner unlocks', async () => {
    const [mine, other] = [client.lock.uuid(), client.lock.uuid()];
    assert.equal(await tryLock('door', mine), true);
    assert.equal(await tryLock('door', other), false);
    assert.deepEqual(await unLock('door', other), { status: LOCK_BELONG_TO_OTHERS });
    assert.deepEqual(await unLock('door', mine), { status: SUCCESS });
    assert.deepEqual(await unLock('door', mine), { status: LOCK_UNEXIST });
    assert.equal(await tryLock('door', other), true);
  });

  test('a lease is extended by its owner', async () => {
    assert.equal(await tryLock('lease', 'me'), true);
    const extend = async owner => {
      const request = new RuntimeTypes.LockKeepAliveRequest();
      request.setStoreName(storeName);
      request.setResourceId('lease');
      request.setLockOwner(owner);
      request.setExpire(60);
      return (await call('lockKeepAlive', request)).getStatus();
    };
    assert.equal(await extend('me'), SUCCESS);
    assert.equal(await extend('you'), LOCK_BELONG_TO_OTHERS);
  });

  test('a lock ends with its time', async () => {
    assert.equal(await tryLock('brief', 'me', 1), true);
    const end = Date.now() + LIMIT;
    while (!await tryLock('brief', 'you')) {
      assert.ok(Date.now() < end, 'the lock did not end');
      await delay(100);
    }
  });
});

describe('sequencer', () => {
  const storeName = 'sequencer_demo';
  const { WEAK, STRONG } = RuntimeTypes.SequencerOptions.AutoIncrement;

  for (const [name, increment] of Object.entries({ WEAK, STRONG })) {
    test(`${name} ids rise and never repeat`, async () => {
      const request = { storeName, key: `orders-${name}`, options: { increment } };
      const first = Number(await client.sequencer.getNextId(request));
      const next = Number(await client.sequencer.getNextId(request));
      assert.ok(first > 0);
      assert.ok(next > first, `${next} after ${first}`);
      const many = await Promise.all(Array.from({ length: 20 }, () => client.sequencer.getNextId(request)));
      assert.equal(new Set(many).size, 20);
      assert.ok(many.every(id => Number(id) > next));
    });
  }

  test('keys count apart', async () => {
    const next = key => client.sequencer.getNextId({ storeName, key });
    assert.equal(await next('apart-a'), await next('apart-b'));
  });
});

describe('configuration', () => {
  const scope = { storeName: 'config_demo', appId: 'app1' };
  const get = (keys, more) => client.configuration.get({ ...scope, keys, ...more });
  const save = items => client.configuration.save({ ...scope, items });

  test('saves, gets by group and label, and deletes', async () => {
    await save([
      { key: 'colour', content: 'red' },
      { key: 'colour', content: 'blue', group: 'night', label: 'v2' },
    ]);
    assert.deepEqual((await get(['colour'])).map(({ content }) => content), ['red']);
    const [item] = await get(['colour'], { group: 'night', label: 'v2' });
    assert.deepEqual([item.key, item.content, item.group, item.label], ['colour', 'blue', 'night', 'v2']);
    await client.configuration.delete({ ...scope, keys: ['colour'] });
    assert.deepEqual((await get(['colour'])).filter(({ content }) => content !== ''), []);
    assert.equal((await get(['colour'], { group: 'night', label: 'v2' })).length, 1);
  });

  test('a subscriber hears of what is there, of changes and of the end', async () => {
    const heard = new Inbox();
    const closed = new Inbox();
    await save([{ key: 'level', content: 'one' }]);
    const stream = client.configuration.subscribe({
      ...scope,
      keys: ['level'],
      onData: items => items.forEach(({ key, content }) => heard.put([key, content])),
      onClose: error => closed.put(error),
    });
    assert.deepEqual(await heard.take(), ['level', 'one']);
    await save([{ key: 'level', content: 'two' }, { key: 'unheard', content: 'x' }]);
    assert.deepEqual(await heard.take(), ['level', 'two']);
    await client.configuration.delete({ ...scope, keys: ['level'] });
    assert.deepEqual(await heard.take(), ['level', '']);
    assert.ok(heard.isEmpty);
    stream.end();
    assert.equal(await closed.take(), undefined);
  });
});

describe('file', () => {
  const storeName = 'file_demo';
  /** Permissions 0644; write only, create, truncate. */
  const metadata = { FileMode: String(0o644), FileFlag: String(constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC) };

  async function read(name) {
    const chunks = [];
    for await (const chunk of await client.file.get({ storeName, name })) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  test('puts, gets, lists, stats and deletes', async () => {
    const content = Buffer.alloc(3 * 1024 * 1024, 'layotto');
    const parts = [content.subarray(0, 1_000_000), content.subarray(1_000_000, 2_000_000), content.subarray(2_000_000)];
    await client.file.put({ storeName, name: 'box/large.bin', metadata, stream: Readable.from(parts) });
    await eventually(async () => assert.deepEqual(await read('box/large.bin'), content));
    await client.file.put({ storeName, name: 'box/small.txt', metadata, data: [Buffer.from('small')] });
    await eventually(async () => assert.equal((await read('box/small.txt')).toString(), 'small'));

    const { names } = await client.file.list({ storeName, name: 'box' });
    assert.deepEqual(names.map(name => name.split('/').pop()).sort(), ['large.bin', 'small.txt']);
    assert.equal((await stat('box/large.bin')).getSize(), content.length);

    await client.file.delete({ storeName, name: 'box/small.txt' });
    await assert.rejects(read('box/small.txt'), { code: NOT_FOUND });
  });

  async function stat(name) {
    const inner = new RuntimeTypes.FileRequest();
    inner.setStoreName(storeName);
    inner.setName(name);
    const request = new RuntimeTypes.GetFileMetaRequest();
    request.setRequest(inner);
    return call('getFileMeta', request);
  }

  // The client's `put` ends when all is written to the socket, before the server's answer.
  async function eventually(check) {
    const end = Date.now() + LIMIT;
    for (;;) {
      try {
        return await check();
      } catch (error) {
        if (Date.now() > end) throw error;
        await delay(50);
      }
    }
  }
});

describe('secrets', () => {
  const storeName = 'secret_demo';

  test('one by its name', async () => {
    const request = new RuntimeTypes.GetSecretRequest();
    request.setStoreName(storeName);
    request.setKey('LAYOTTO_TEST_SECRET');
    const response = await call('getSecret', request);
    assert.deepEqual(Object.fromEntries(response.getDataMap().entries()), { LAYOTTO_TEST_SECRET: 'hush' });
  });

  test('all at once', async () => {
    const request = new RuntimeTypes.GetBulkSecretRequest();
    request.setStoreName(storeName);
    const secrets = (await call('getBulkSecret', request)).getDataMap().get('LAYOTTO_TEST_SECRET').getSecretsMap();
    assert.equal(secrets.get('LAYOTTO_TEST_SECRET'), 'hush');
  });
});

describe('bindings', () => {
  test('the HTTP binding gets a page', async () => {
    const { data, metadata } = await client.binding.invoke({
      name: 'bindings_demo',
      operation: 'get',
      data: '',
      metadata: { path: '/actuator/health/readiness' },
    });
    assert.equal(JSON.parse(text(data)).status, 'UP');
    assert.equal(metadata.statusCode, '200');
  });

  test('an unknown binding is refused', async () => {
    const request = { name: 'other', operation: 'get', data: '', metadata: {} };
    await assert.rejects(client.binding.invoke(request), { code: INVALID_ARGUMENT });
  });
});

describe('service invocation', () => {
  const { POST } = RuntimeTypes.HTTPExtension.Verb;

  test('JSON there and back', async () => {
    const { contentType, content } = await client.invoker.invoke({
      id: 'orders:1.0',
      method: '/orders',
      httpVerb: POST,
      data: { order: 7 },
    });
    assert.equal(contentType, 'application/json');
    assert.deepEqual(content, { method: 'POST', url: '/orders', id: 'orders:1.0', type: 'application/json', body: '{"order":7}' });
  });

  test('text', async () => {
    assert.deepEqual(await client.invoker.invoke({ id: 'greeter', method: '/text' }), { contentType: 'text/plain', content: 'grüße' });
  });

  test('a failure of the service is an error', async () => {
    await assert.rejects(client.invoker.invoke({ id: 'orders', method: '/missing' }), error => {
      assert.equal(error.code, UNAVAILABLE);
      assert.match(error.details, /404.*no such thing/);
      return true;
    });
  });
});
