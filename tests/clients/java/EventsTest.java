import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.Status;
import io.mosn.layotto.v1.RuntimeClientBuilder;
import io.mosn.layotto.v1.RuntimeServerGrpc;
import io.mosn.layotto.v1.callback.component.pubsub.DefaultSubscriber;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import spec.sdk.runtime.v1.client.RuntimeClient;
import spec.sdk.runtime.v1.domain.pubsub.TopicEventRequest;

/** Events, from the client to the application that the client library's own server hosts. */
class EventsTest {
    private static final String PUBSUB = "pub_subs_demo";
    private static final String TOPIC = "orders";

    private final BlockingQueue<TopicEventRequest> events = new LinkedBlockingQueue<>();
    private final AtomicInteger failures = new AtomicInteger();

    @Test
    void anApplicationStartedBeforeTheSidecarGetsEvents() throws Exception {
        int port = Sidecar.freePorts(1).get(0);
        RuntimeServerGrpc app = app(port);
        try (Sidecar sidecar = Sidecar.start(port, 0)) {
            sidecar.awaitSubscription(TOPIC);
            RuntimeClient client = client(sidecar);
            byte[] json = "{\"order\":7}".getBytes(UTF_8);
            client.publishEvent(PUBSUB, TOPIC, json, "application/json", Map.of());
            TopicEventRequest event = next();
            assertArrayEquals(json, event.getData());
            assertEquals("application/json", event.getContentType());
            assertEquals(TOPIC, event.getTopic());
            assertEquals(PUBSUB, event.getPubsubName());
            assertEquals("1.0", event.getSpecVersion());

            client.publishEvent(PUBSUB, TOPIC, "grüße".getBytes(UTF_8), "text/plain", Map.of());
            event = next();
            assertEquals("grüße", new String(event.getData(), UTF_8));
            assertEquals("text/plain", event.getContentType());
            client.shutdown();
        } finally {
            app.stop();
        }
    }

    @Test
    void anApplicationStartedAfterTheSidecarGetsEvents() throws Exception {
        int port = Sidecar.freePorts(1).get(0);
        try (Sidecar sidecar = Sidecar.start(port, 0)) {
            RuntimeServerGrpc app = app(port);
            sidecar.awaitSubscription(TOPIC);
            RuntimeClient client = client(sidecar);
            client.publishEvent(PUBSUB, TOPIC, "late".getBytes(UTF_8));
            assertEquals("late", new String(next().getData(), UTF_8));
            client.shutdown();
            app.stop();
        }
    }

    @Test
    void anEventWhoseHandlerFailsIsDeliveredAgain() throws Exception {
        int port = Sidecar.freePorts(1).get(0);
        RuntimeServerGrpc app = app(port);
        failures.set(2);
        try (Sidecar sidecar = Sidecar.start(port, 0)) {
            sidecar.awaitSubscription(TOPIC);
            RuntimeClient client = client(sidecar);
            client.publishEvent(PUBSUB, TOPIC, "again".getBytes(UTF_8));
            String id = next().getId();
            assertEquals(id, next().getId());
            assertEquals(id, next().getId());
            client.publishEvent(PUBSUB, TOPIC, "other".getBytes(UTF_8));
            assertEquals("other", new String(next().getData(), UTF_8));
            assertNull(events.poll());
            client.shutdown();
        } finally {
            app.stop();
        }
    }

    @Test
    void publishingToAPubsubThatIsNotConfiguredIsRefused() throws Exception {
        try (Sidecar sidecar = Sidecar.start(0, 0)) {
            RuntimeClient client = client(sidecar);
            Throwable failure =
                assertThrows(RuntimeException.class, () -> client.publishEvent("other", TOPIC, new byte[0]));
            assertEquals(Status.Code.INVALID_ARGUMENT, Status.fromThrowable(failure).getCode());
            client.shutdown();
        }
    }

    private RuntimeServerGrpc app(int port) throws Exception {
        DefaultSubscriber subscriber = new DefaultSubscriber(PUBSUB);
        subscriber.subscribe(TOPIC, event -> {
            events.add(event);
            if (failures.getAndDecrement() > 0) {
                throw new IllegalStateException("not now");
            }
        });
        RuntimeServerGrpc app = new RuntimeServerGrpc(port);
        app.registerPubSubCallback(PUBSUB, subscriber);
        app.start();
        return app;
    }

    private static RuntimeClient client(Sidecar sidecar) {
        return new RuntimeClientBuilder().withIp("127.0.0.1").withPort(sidecar.port()).withTimeout(5000).build();
    }

    private TopicEventRequest next() throws InterruptedException {
        TopicEventRequest event = events.poll(Sidecar.LIMIT.toSeconds(), TimeUnit.SECONDS);
        assertNotNull(event, "no event arrived");
        return event;
    }
}
