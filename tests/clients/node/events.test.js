'use strict';
// Events, from the client to the application that the client library's own server hosts.

const assert = require('node:assert/strict');
const { after, before, describe, test } = require('node:test');

const { Client, RuntimeTypes, Server } = require('layotto');

const { Inbox, Sidecar, freePorts } = require('./sidecar');

const PUBSUB = 'pub_subs_demo';

/** An application with one inbox for each topic; a handler that throws asks for redelivery. */
async function startApp(port, topics, handle = () => {}) {
  const logger = { info() {}, warn() {}, error() {} };
  const server = new Server(String(port), undefined, { logger });
  const inboxes = {};
  for (const topic of topics) {
    const inbox = new Inbox();
    inboxes[topic] = inbox;
    server.pubsub.addPubSubSubscription(PUBSUB, topic);
    server.pubsub.subscribe(PUBSUB, topic, async (data, event) => {
      inbox.put({ data, event });
      await handle(topic, data);
    });
  }
  await server.start();
  return { inboxes, close: () => server.close() };
}

function publish(client, topic, data) {
  return client.pubsub.publish({ pubsubName: PUBSUB, topic, data });
}

/** The client's own `publish` knows only JSON; its stub takes any content type. */
function publishRaw(client, topic, data, contentType) {
  const request = new RuntimeTypes.PublishEventRequest();
  request.setPubsubName(PUBSUB);
  request.setTopic(topic);
  request.setData(Buffer.from(data));
  request.setDataContentType(contentType);
  return new Promise((resolve, reject) => {
    client._runtime.publishEvent(request, error => (error ? reject(error) : resolve()));
  });
}

describe('application started before the sidecar', () => {
  const topics = ['json', 'text', 'bytes', 'again'];
  let app;
  let sidecar;
  let client;
  let failures = 2;

  before(async () => {
    const [port] = await freePorts(1);
    app = await startApp(port, topics, topic => {
      if (topic === 'again' && failures-- > 0) throw new Error('not now');
    });
    sidecar = await Sidecar.start({ callback: port });
    client = new Client(String(sidecar.port));
    await sidecar.subscribed(topics);
  });

  after(async () => {
    client?.close();
    await sidecar?.stop();
    await app?.close();
  });

  test('a JSON event arrives as an object, with the attributes of a CloudEvent', async () => {
    await publish(client, 'json', { order: 7, tags: ['ä', 'b'] });
    const { data, event } = await app.inboxes.json.take();
    assert.deepEqual(data, { order: 7, tags: ['ä', 'b'] });
    assert.equal(event.topic, 'json');
    assert.equal(event.pubsubName, PUBSUB);
    assert.equal(event.dataContentType, 'application/json');
    assert.equal(event.specVersion, '1.0');
    assert.equal(event.type, 'com.runtime.event.sent');
    assert.match(event.id, /^[0-9a-f-]{36}$/);
  });

  test('a text event arrives unchanged', async () => {
    await publishRaw(client, 'text', 'grüße', 'text/plain');
    const { data, event } = await app.inboxes.text.take();
    assert.equal(Buffer.from(data).toString(), 'grüße');
    assert.equal(event.dataContentType, 'text/plain');
  });

  test('bytes arrive unchanged', async () => {
    const bytes = Buffer.from([0, 255, 128, 10]);
    await publishRaw(client, 'bytes', bytes, 'application/octet-stream');
    const { data, event } = await app.inboxes.bytes.take();
    assert.deepEqual(Buffer.from(data), bytes);
    assert.equal(event.dataContentType, 'application/octet-stream');
  });

  test('an event whose handler fails is delivered again until it succeeds', async () => {
    await publish(client, 'again', { attempt: 'x' });
    const ids = [];
    for (let delivery = 0; delivery < 3; delivery++) {
      ids.push((await app.inboxes.again.take()).event.id);
    }
    assert.equal(new Set(ids).size, 1);
    await publish(client, 'again', { attempt: 'y' });
    assert.deepEqual((await app.inboxes.again.take()).data, { attempt: 'y' });
    assert.ok(app.inboxes.again.isEmpty);
  });

  test('publishing to a pubsub that is not configured is refused', async () => {
    await assert.rejects(client.pubsub.publish({ pubsubName: 'other', topic: 'json', data: {} }), { code: 3 });
  });
});

test('an application started after the sidecar gets events, and those of the time it is away', async () => {
  const [port] = await freePorts(1);
  const sidecar = await Sidecar.start({ callback: port });
  const client = new Client(String(sidecar.port));
  try {
    let app = await startApp(port, ['late']);
    await sidecar.subscribed(['late']);
    await publish(client, 'late', { number: 1 });
    assert.deepEqual((await app.inboxes.late.take()).data, { number: 1 });
    await app.close();
    await publish(client, 'late', { number: 2 });
    app = await startApp(port, ['late']);
    assert.deepEqual((await app.inboxes.late.take()).data, { number: 2 });
    assert.ok(app.inboxes.late.isEmpty);
    await app.close();
  } finally {
    client.close();
    await sidecar.stop();
  }
});
