import io.nats.client.Connection;
import io.nats.client.ConsumerContext;
import io.nats.client.IterableConsumer;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.api.ConsumerConfiguration;
import java.nio.charset.StandardCharsets;
import java.time.Duration;

/** Prints every mirrored event of a stream: MD5, message id, body. */
public class ReadJetStream {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection = Nats.connect(arguments[0])) {
            ConsumerConfiguration settings = ConsumerConfiguration.builder()
                .durable("my-application")
                // One at a time keeps the order of the stream even when an event has to be delivered again.
                .maxAckPending(1)
                .build();
            ConsumerContext consumer = connection.getStreamContext(arguments[1]).createOrUpdateConsumer(settings);
            try (IterableConsumer events = consumer.iterate()) {
                while (true) {
                    Message event = events.nextMessage(Duration.ofSeconds(1));
                    if (event == null) {
                        continue;
                    }
                    String key = event.getHeaders().getLast("atdata-key");
                    String id = event.getHeaders().getLast("atdata-message-id");
                    String body = new String(event.getData(), StandardCharsets.UTF_8);
                    System.out.println(String.join("\t", key, id, body));
                    // Only now, after the work is done: what is not acknowledged is delivered again.
                    event.ack();
                }
            }
        }
    }
}
