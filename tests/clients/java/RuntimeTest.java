import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import io.mosn.layotto.v1.RuntimeClientBuilder;
import io.mosn.layotto.v1.grpc.GrpcRuntimeClient;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import spec.proto.runtime.v1.RuntimeGrpc.RuntimeBlockingStub;
import spec.proto.runtime.v1.RuntimeProto.ConfigurationItem;
import spec.proto.runtime.v1.RuntimeProto.DeleteConfigurationRequest;
import spec.proto.runtime.v1.RuntimeProto.GetConfigurationRequest;
import spec.proto.runtime.v1.RuntimeProto.InvokeBindingRequest;
import spec.proto.runtime.v1.RuntimeProto.InvokeBindingResponse;
import spec.proto.runtime.v1.RuntimeProto.SaveConfigurationRequest;
import spec.proto.runtime.v1.RuntimeProto.SubscribeConfigurationRequest;
import spec.proto.runtime.v1.RuntimeProto.SubscribeConfigurationResponse;
import spec.proto.runtime.v1.RuntimeProto.TryLockRequest;
import spec.proto.runtime.v1.RuntimeProto.UnlockRequest;
import spec.proto.runtime.v1.RuntimeProto.UnlockResponse;
import spec.sdk.runtime.v1.domain.file.DelFileRequest;
import spec.sdk.runtime.v1.domain.file.FileInfo;
import spec.sdk.runtime.v1.domain.file.GetFileRequest;
import spec.sdk.runtime.v1.domain.file.GetMetaRequest;
import spec.sdk.runtime.v1.domain.file.ListFileRequest;
import spec.sdk.runtime.v1.domain.file.PutFileRequest;
import spec.sdk.runtime.v1.domain.invocation.InvokeResponse;
import spec.sdk.runtime.v1.domain.sequencer.GetNextIdRequest;
import spec.sdk.runtime.v1.domain.sequencer.SequencerOptions;
import spec.sdk.runtime.v1.domain.state.State;
import spec.sdk.runtime.v1.domain.state.StateOptions;
import spec.sdk.runtime.v1.domain.state.TransactionalStateOperation;
import spec.sdk.runtime.v1.domain.state.TransactionalStateOperation.OperationType;

/**
 * Every building block that the client reaches, by its own methods or by its generated stubs. The
 * stubs are deprecated there, but this version has no other way to locks, configuration and bindings.
 */
@SuppressWarnings("deprecation")
class RuntimeTest {
    private static final String STATE = "state_demo";
    private static final String LOCK = "lock_demo";
    private static final String CONFIGURATION = "config_demo";
    private static final String FILES = "file_demo";
    private static final int TIMEOUT = 10_000;

    private static HttpServer service;
    private static Sidecar sidecar;
    private static GrpcRuntimeClient client;

    @BeforeAll
    static void start() throws Exception {
        service = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        service.createContext("/", RuntimeTest::answer);
        service.start();
        sidecar = Sidecar.start(0, service.getAddress().getPort());
        client = new RuntimeClientBuilder()
            .withIp("127.0.0.1")
            .withPort(sidecar.port())
            .withTimeout(TIMEOUT)
            .buildGrpc();
    }

    @AfterAll
    static void stop() throws Exception {
        if (client != null) {
            client.shutdown();
        }
        if (sidecar != null) {
            sidecar.close();
        }
        service.stop(0);
    }

    /** Tells what was asked, except where something is missing. */
    private static void answer(HttpExchange exchange) throws IOException {
        String path = exchange.getRequestURI().getPath();
        String body = new String(exchange.getRequestBody().readAllBytes(), UTF_8);
        String id = exchange.getRequestHeaders().getFirst("id");
        byte[] answer = String.join(" ", exchange.getRequestMethod(), path, id, body).getBytes(UTF_8);
        exchange.getResponseHeaders().set("content-type", "text/plain");
        exchange.sendResponseHeaders(path.equals("/missing") ? 404 : 200, answer.length);
        exchange.getResponseBody().write(answer);
        exchange.close();
    }

    /** The gRPC code with which a call fails. */
    private static Status.Code code(Executable call) {
        return Status.fromThrowable(assertThrows(Exception.class, call)).getCode();
    }

    private static RuntimeBlockingStub stub() {
        return client.getStubManager().getBlockingStub().withDeadlineAfter(TIMEOUT, TimeUnit.MILLISECONDS);
    }

    @Test
    void helloGreets() {
        // This client sends the name of the component as the name to greet, too.
        assertEquals("greeting, helloworld", client.sayHello("helloworld"));
        assertEquals(Status.Code.INVALID_ARGUMENT, code(() -> client.sayHello("other")));
    }

    /** What the tests save; the client makes JSON of it. */
    public static final class Order {
        private String item;
        private int count;

        public Order() {}

        Order(String item, int count) {
            this.item = item;
            this.count = count;
        }

        public String getItem() {
            return item;
        }

        public void setItem(String item) {
            this.item = item;
        }

        public int getCount() {
            return count;
        }

        public void setCount(int count) {
            this.count = count;
        }
    }

    private static String item(String key) {
        Order order = client.getState(STATE, key, Order.class).getValue();
        return order == null ? null : order.getItem();
    }

    @Test
    void stateIsSavedReplacedAndDeleted() {
        client.saveState(STATE, "plain", new Order("tea", 2));
        State<Order> found = client.getState(STATE, "plain", Order.class);
        assertEquals("tea", found.getValue().getItem());
        assertEquals(2, found.getValue().getCount());
        client.saveState(STATE, "plain", new Order("milk", 1));
        assertEquals("milk", item("plain"));
        client.deleteState(STATE, "plain");
        assertNull(item("plain"));
        assertEquals(Status.Code.INVALID_ARGUMENT, code(() -> client.deleteState("other", "plain")));
    }

    @Test
    void aWriteWithAnEtagNeedsTheCurrentOne() {
        StateOptions options = new StateOptions(StateOptions.Consistency.STRONG, StateOptions.Concurrency.FIRST_WRITE);
        client.saveState(STATE, "guarded", new Order("tea", 1));
        String first = client.getState(STATE, "guarded", Order.class).getEtag();
        client.saveState(STATE, "guarded", first, new Order("milk", 1), options, null);
        String second = client.getState(STATE, "guarded", Order.class).getEtag();
        assertNotEquals(first, second);
        Order lost = new Order("lost", 1);
        assertEquals(
            Status.Code.ABORTED, code(() -> client.saveState(STATE, "guarded", first, lost, options, null)));
        assertEquals(Status.Code.ABORTED, code(() -> client.deleteState(STATE, "guarded", first, options)));
        assertEquals("milk", item("guarded"));
        client.deleteState(STATE, "guarded", second, options);
        assertNull(item("guarded"));
    }

    @Test
    void manyKeysAtOnce() {
        client.saveBulkState(STATE, List.of(
            new State<>("bulk-a", new Order("tea", 1), null, null),
            new State<>("bulk-b", new Order("milk", 2), null, null)));
        List<State<Order>> found =
            client.getBulkState(STATE, List.of("bulk-a", "bulk-b", "bulk-missing"), Order.class);
        List<String> shown = new ArrayList<>();
        for (State<Order> state : found) {
            shown.add(state.getKey() + "=" + (state.getValue() == null ? null : state.getValue().getItem()));
        }
        shown.sort(null);
        assertEquals(List.of("bulk-a=tea", "bulk-b=milk", "bulk-missing=null"), shown);
    }

    @Test
    void aTransactionHappensInFullOrNotAtAll() {
        client.saveState(STATE, "tx-old", new Order("old", 1));
        client.saveState(STATE, "tx-kept", new Order("kept", 1));
        String stale = client.getState(STATE, "tx-kept", Order.class).getEtag();
        client.executeStateTransaction(STATE, List.of(
            upsert("tx-new", "new", null),
            upsert("tx-kept", "changed", stale),
            new TransactionalStateOperation<>(OperationType.DELETE, new State<Order>("tx-old", (String) null))));
        assertEquals("new", item("tx-new"));
        assertEquals("changed", item("tx-kept"));
        assertNull(item("tx-old"));
        assertThrows(RuntimeException.class, () -> client.executeStateTransaction(STATE, List.of(
            new TransactionalStateOperation<>(OperationType.DELETE, new State<Order>("tx-new", (String) null)),
            upsert("tx-kept", "lost", stale))));
        assertEquals("new", item("tx-new"));
        assertEquals("changed", item("tx-kept"));
    }

    private static TransactionalStateOperation<Order> upsert(String key, String item, String etag) {
        return new TransactionalStateOperation<>(
            OperationType.UPSERT, new State<>(key, new Order(item, 1), etag, (StateOptions) null));
    }


    private static boolean tryLock(String resource, String owner) {
        TryLockRequest request = TryLockRequest.newBuilder()
            .setStoreName(LOCK).setResourceId(resource).setLockOwner(owner).setExpire(60).build();
        return stub().tryLock(request).getSuccess();
    }

    private static UnlockResponse.Status unlock(String resource, String owner) {
        UnlockRequest request = UnlockRequest.newBuilder()
            .setStoreName(LOCK).setResourceId(resource).setLockOwner(owner).build();
        return stub().unlock(request).getStatus();
    }

    @Test
    void onlyTheOwnerUnlocks() {
        assertTrue(tryLock("door", "me"));
        assertFalse(tryLock("door", "you"));
        assertEquals(UnlockResponse.Status.LOCK_BELONG_TO_OTHERS, unlock("door", "you"));
        assertEquals(UnlockResponse.Status.SUCCESS, unlock("door", "me"));
        assertEquals(UnlockResponse.Status.LOCK_UNEXIST, unlock("door", "me"));
        assertTrue(tryLock("door", "you"));
    }

    @Test
    void idsRise() {
        for (SequencerOptions.AutoIncrement increment : SequencerOptions.AutoIncrement.values()) {
            long last = 0;
            for (int i = 0; i < 5; i++) {
                long id = nextId("orders-" + increment, increment);
                assertTrue(id > last, id + " after " + last);
                last = id;
            }
        }
    }

    private static long nextId(String key, SequencerOptions.AutoIncrement increment) {
        SequencerOptions options = new SequencerOptions();
        options.setOption(increment);
        GetNextIdRequest request = new GetNextIdRequest();
        request.setStoreName("sequencer_demo");
        request.setKey(key);
        request.setOptions(options);
        request.setMetadata(Map.of());
        return client.getNextId(request).getNextId();
    }

    private static void saveConfiguration(String key, String content) {
        ConfigurationItem item = ConfigurationItem.newBuilder().setKey(key).setContent(content).build();
        stub().saveConfiguration(SaveConfigurationRequest.newBuilder()
            .setStoreName(CONFIGURATION).setAppId("app1").addItems(item).build());
    }

    private static void deleteConfiguration(String key) {
        stub().deleteConfiguration(DeleteConfigurationRequest.newBuilder()
            .setStoreName(CONFIGURATION).setAppId("app1").addKeys(key).build());
    }

    private static List<String> configuration(String key) {
        GetConfigurationRequest request = GetConfigurationRequest.newBuilder()
            .setStoreName(CONFIGURATION).setAppId("app1").addKeys(key).build();
        List<ConfigurationItem> items = stub().getConfiguration(request).getItemsList();
        return items.stream().map(ConfigurationItem::getContent).filter(content -> !content.isEmpty()).toList();
    }

    @Test
    void configurationIsSavedReplacedAndDeleted() {
        saveConfiguration("colour", "red");
        assertEquals(List.of("red"), configuration("colour"));
        saveConfiguration("colour", "blue");
        assertEquals(List.of("blue"), configuration("colour"));
        deleteConfiguration("colour");
        assertEquals(List.of(), configuration("colour"));
    }

    @Test
    void aSubscriberHearsOfWhatIsThereOfChangesAndOfTheEnd() throws Exception {
        BlockingQueue<String> heard = new LinkedBlockingQueue<>();
        StreamObserver<SubscribeConfigurationResponse> listener = new StreamObserver<>() {
            @Override
            public void onNext(SubscribeConfigurationResponse response) {
                response.getItemsList().forEach(item -> heard.add(item.getKey() + "=" + item.getContent()));
            }

            @Override
            public void onError(Throwable error) {
                heard.add("error: " + error);
            }

            @Override
            public void onCompleted() {
                heard.add("completed");
            }
        };
        saveConfiguration("level", "one");
        StreamObserver<SubscribeConfigurationRequest> stream =
            client.getStubManager().getAsyncStub().subscribeConfiguration(listener);
        stream.onNext(SubscribeConfigurationRequest.newBuilder()
            .setStoreName(CONFIGURATION).setAppId("app1").addKeys("level").build());
        assertEquals("level=one", next(heard));
        saveConfiguration("level", "two");
        assertEquals("level=two", next(heard));
        deleteConfiguration("level");
        assertEquals("level=", next(heard));
        stream.onCompleted();
        assertEquals("completed", next(heard));
    }

    private static String next(BlockingQueue<String> heard) throws InterruptedException {
        String text = heard.poll(Sidecar.LIMIT.toSeconds(), TimeUnit.SECONDS);
        assertNotNull(text, "nothing arrived");
        return text;
    }

    @Test
    void filesArePutReadListedAndDeleted() throws Exception {
        byte[] content = new byte[3 * 1024 * 1024];
        Arrays.fill(content, (byte) 'l');
        putFile("box/large.bin", content);
        putFile("box/small.txt", "small".getBytes(UTF_8));
        assertArrayEquals(content, readFile("box/large.bin"));
        assertEquals("small", new String(readFile("box/small.txt"), UTF_8));

        ListFileRequest list = new ListFileRequest();
        list.setStoreName(FILES);
        list.setName("box");
        list.setPageSize(10);
        list.setMarker("");
        FileInfo[] files = client.listFile(list, TIMEOUT).getFiles();
        List<Long> sizes = Arrays.stream(files).map(FileInfo::getSize).sorted().toList();
        assertEquals(List.of(5L, (long) content.length), sizes);

        GetMetaRequest meta = new GetMetaRequest();
        meta.setStoreName(FILES);
        meta.setFileName("box/large.bin");
        assertEquals(content.length, client.getFileMeta(meta, TIMEOUT).getSize());

        DelFileRequest delete = new DelFileRequest();
        delete.setStoreName(FILES);
        delete.setFileName("box/small.txt");
        client.delFile(delete, TIMEOUT);
        assertThrows(Exception.class, () -> readFile("box/small.txt"));
        assertEquals(1, client.listFile(list, TIMEOUT).getFiles().length);
    }

    private static void putFile(String name, byte[] content) throws Exception {
        PutFileRequest put = new PutFileRequest();
        put.setStoreName(FILES);
        put.setFileName(name);
        // Permissions 0644; write only, create, truncate.
        put.setMetaData(Map.of("FileMode", String.valueOf(0644), "FileFlag", String.valueOf(01 | 0100 | 01000)));
        put.setIn(new ByteArrayInputStream(content));
        client.putFile(put, TIMEOUT);
    }

    private static byte[] readFile(String name) throws Exception {
        GetFileRequest get = new GetFileRequest();
        get.setStoreName(FILES);
        get.setFileName(name);
        try (var in = client.getFile(get, TIMEOUT).getIn()) {
            return in.readAllBytes();
        }
    }

    @Test
    void theHttpBindingGetsAPage() {
        InvokeBindingResponse response = stub().invokeBinding(InvokeBindingRequest.newBuilder()
            .setName("bindings_demo")
            .setOperation("get")
            .setData(ByteString.EMPTY)
            .putMetadata("path", "/actuator/health/readiness")
            .build());
        assertEquals("200", response.getMetadataOrThrow("statusCode"));
        String page = response.getData().toStringUtf8();
        assertTrue(page.contains("\"status\":\"UP\""), page);
    }

    @Test
    void servicesAreInvoked() {
        byte[] body = "order 7".getBytes(UTF_8);
        InvokeResponse<byte[]> response =
            client.invokeMethod("orders:1.0", "/orders", body, Map.of("verb", "POST"));
        assertEquals("POST /orders orders:1.0 order 7", new String(response.getData(), UTF_8));
        assertEquals("text/plain", response.getContentType());
        assertEquals(
            Status.Code.UNAVAILABLE, code(() -> client.invokeMethod("orders", "/missing", body, Map.of())));
    }
}
