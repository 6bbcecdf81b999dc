import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;

/**
 * A sidecar with the configuration of {@code layotto init}, on free ports, with data of its own.
 * LAYOTTO_BINARY names the program.
 */
final class Sidecar implements AutoCloseable {
    /** How long anything that is waited for may take. */
    static final Duration LIMIT = Duration.ofSeconds(20);
    /** Of {@code layotto init}: runtime API, actuator, metrics. */
    private static final List<Integer> PORTS = List.of(34904, 34999, 34903);

    private final HttpClient http = HttpClient.newHttpClient();
    private final Path folder;
    private final Path log;
    private final List<Integer> ports;
    private Process process;

    /**
     * Starts a sidecar and waits until it is ready. {@code callback} is the application's port,
     * {@code service} the port that InvokeService calls; 0 for none.
     */
    static Sidecar start(int callback, int service) throws Exception {
        Sidecar sidecar = new Sidecar();
        try {
            sidecar.run(callback, service);
        } catch (Exception | AssertionError failure) {
            sidecar.discard();
            throw failure;
        }
        return sidecar;
    }

    private Sidecar() throws IOException {
        folder = Files.createTempDirectory("layotto-clients-");
        log = folder.resolve("log");
        ports = freePorts(PORTS.size());
    }

    private void run(int callback, int service) throws Exception {
        String binary = System.getenv("LAYOTTO_BINARY");
        if (binary == null) {
            throw new IllegalStateException("LAYOTTO_BINARY is not set");
        }
        Path config = folder.resolve("config.json");
        Process init = new ProcessBuilder(binary, "init", config.toString())
            .redirectErrorStream(true)
            .redirectOutput(log.toFile())
            .start();
        if (init.waitFor() != 0) {
            throw new IllegalStateException("layotto init failed\n" + Files.readString(log));
        }
        Files.writeString(config, configured(Files.readString(config), callback, service));
        ProcessBuilder start = new ProcessBuilder(binary, "start", "-c", config.toString());
        start.environment().put("LAYOTTO_DATA_DIR", folder.resolve("data").toString());
        process = start.directory(folder.toFile()).redirectErrorStream(true).redirectOutput(log.toFile()).start();
        until(() -> get("/actuator/health/readiness").statusCode() == 200);
    }

    private String configured(String text, int callback, int service) {
        for (int i = 0; i < PORTS.size(); i++) {
            text = replaced(text, PORTS.get(i).toString(), ports.get(i).toString());
        }
        text = replaced(text, "\"grpc_callback_port\": 0", "\"grpc_callback_port\": " + callback);
        if (service == 0) {
            return text;
        }
        String channel = "{\"protocol\": \"http\", \"listener\": \"127.0.0.1:" + service + "\"}";
        String rpcs = "\"rpcs\": {\"mosn\": {\"config\": {\"channel\": [" + channel + "]}}}, ";
        return replaced(text, "\"hellos\":", rpcs + "\"hellos\":");
    }

    /** Where the runtime API listens. */
    int port() {
        return ports.get(0);
    }

    /** Waits until the application gets events of this topic. */
    void awaitSubscription(String topic) throws Exception {
        until(() -> get("/actuator/info").body().contains("\"topic\":\"" + topic + "\""));
    }

    /** Ends the sidecar in order; fails if it does not end well. */
    @Override
    public void close() throws Exception {
        process.destroy();
        boolean ended = process.waitFor(LIMIT.toSeconds(), TimeUnit.SECONDS);
        String output = Files.readString(log);
        discard();
        if (!ended || process.exitValue() != 0) {
            throw new IllegalStateException("the sidecar did not end well\n" + output);
        }
    }

    private void discard() throws Exception {
        if (process != null) {
            process.destroyForcibly().waitFor();
        }
        try (var files = Files.walk(folder)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(file);
            }
        }
    }

    private void until(Callable<Boolean> isTrue) throws Exception {
        long end = System.nanoTime() + LIMIT.toNanos();
        Exception reason = null;
        while (System.nanoTime() < end && process.isAlive()) {
            try {
                if (isTrue.call()) {
                    return;
                }
            } catch (IOException failure) {
                reason = failure;
            }
            Thread.sleep(50);
        }
        throw new IllegalStateException("waited in vain\n" + Files.readString(log), reason);
    }

    private HttpResponse<String> get(String target) throws Exception {
        URI uri = URI.create("http://127.0.0.1:" + ports.get(1) + target);
        return http.send(HttpRequest.newBuilder(uri).timeout(LIMIT).build(), BodyHandlers.ofString());
    }

    private static String replaced(String text, String from, String to) {
        if (!text.contains(from)) {
            throw new IllegalStateException("the configuration has no " + from);
        }
        return text.replace(from, to);
    }

    /** Ports that nobody listens on, all different. */
    static List<Integer> freePorts(int count) throws IOException {
        List<ServerSocket> sockets = new ArrayList<>();
        List<Integer> ports = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
            sockets.add(socket);
            ports.add(socket.getLocalPort());
        }
        for (ServerSocket socket : sockets) {
            socket.close();
        }
        return ports;
    }
}
