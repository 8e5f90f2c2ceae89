import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Prints every mirrored event of a topic: partition, MD5, message id, body. */
public class ReadKafka {
    private static volatile boolean stopped;

    public static void main(String[] arguments) {
        if (arguments.length != 3) {
            System.err.println("usage: ReadKafka BROKERS TOPIC GROUP");
            System.exit(64);
        }
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", arguments[0],
            "group.id", arguments[2],
            // Only committed events. The default also reads those of transactions that were aborted.
            "isolation.level", "read_committed",
            // A new group begins with the oldest event. By default it would skip all that are there.
            "auto.offset.reset", "earliest",
            "enable.auto.commit", false,
            // A mistyped name makes no topic.
            "allow.auto.create.topics", false);
        stopAtExit();
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(arguments[1]));
            while (!stopped) {
                for (ConsumerRecord<String, byte[]> event : consumer.poll(Duration.ofSeconds(1))) {
                    String body = new String(event.value(), StandardCharsets.UTF_8);
                    // The key is the MD5, 32 lower-case hex digits: one person is always in one partition.
                    System.out.println(String.join("\t",
                        String.valueOf(event.partition()), event.key(), header(event, "atdata-message-id"), body));
                }
                // Only now, after the work is done: what is not committed is read again.
                consumer.commitSync();
            }
        }
    }

    private static String header(ConsumerRecord<?, ?> event, String name) {
        Header header = event.headers().lastHeader(name);
        return header == null ? "" : new String(header.value(), StandardCharsets.UTF_8);
    }

    /** Lets main finish at SIGTERM and Ctrl-C. It leaves the group, or else the next start waits for 45 s. */
    private static void stopAtExit() {
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopped = true;
            try {
                main.join();
            } catch (InterruptedException interrupted) {
                // The process ends anyway.
            }
        }));
    }
}
