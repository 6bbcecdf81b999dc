import com.ctrip.framework.apollo.mockserver.ApolloTestingServer;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;

/**
 * Apollo's mock of its configuration service. Prints where it is, and takes commands on the port
 * that is its argument: lines of "set", namespace, key and value, or "delete", namespace and key,
 * parted by tabs; each is answered with "done".
 */
public class ApolloMock {
  public static void main(String[] arguments) throws Exception {
    ApolloTestingServer mock = new ApolloTestingServer();
    mock.start();
    int port = Integer.parseInt(arguments[0]);
    try (ServerSocket commands = new ServerSocket(port, 50, InetAddress.getByName("127.0.0.1"))) {
      System.out.println("configuration service at " + System.getProperty("apollo.config-service") + " .");
      while (true) {
        try (var connection = commands.accept();
            var lines = new BufferedReader(
                new InputStreamReader(connection.getInputStream(), StandardCharsets.UTF_8))) {
          for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] parts = line.split("\t", -1);
            if (parts[0].equals("set")) {
              mock.addOrModifyProperty(parts[1], parts[2], parts[3]);
            } else {
              mock.deleteProperty(parts[1], parts[2]);
            }
            connection.getOutputStream().write("done\n".getBytes(StandardCharsets.UTF_8));
          }
        }
      }
    }
  }
}
