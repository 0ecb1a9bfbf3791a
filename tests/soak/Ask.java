import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/** Java's HttpClient as it comes, which asks every http:// server for HTTP/2: with a length, chunked, and on one connection. */
public class Ask {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        byte[] body = "{\"queries\": [{\"id\": 1}], \"k\": 3}".getBytes();
        for (int round = 0; round < 3; round++) {
            for (HttpRequest.BodyPublisher publisher : new HttpRequest.BodyPublisher[] {
                BodyPublishers.ofByteArray(body),
                BodyPublishers.ofInputStream(() -> new java.io.ByteArrayInputStream(body)),
            }) {
                HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0] + "/query"))
                    .header("Content-Type", "application/json").POST(publisher).build();
                System.out.println(client.send(request, BodyHandlers.ofString()).statusCode());
            }
        }
    }
}
